#!/usr/bin/env python3
"""Reads the JUnit XML files that a suite wrote into a folder.

results.py count FOLDER       prints `COUNTED PASSED FAILED SKIPPED`; COUNTED is 0 if there are no results
results.py failures FOLDER    prints the failed tests with their messages
"""

import sys
from pathlib import Path
from xml.etree import ElementTree

# Lines to print of the message of a failed test.
MOST_LINES = 20


def cases(folder):
    for path in sorted(Path(folder).glob("*.xml")):
        try:
            yield from ElementTree.parse(path).getroot().iter("testcase")
        except ElementTree.ParseError:
            print(f"{path.name} is incomplete: the suite was stopped", file=sys.stderr)


def failure(case):
    """The message of a failed test, or None."""
    for kind in ("failure", "error"):
        if (element := case.find(kind)) is not None:
            return (element.text or element.get("message") or kind).strip()
    return None


def count(folder):
    passed = failed = skipped = 0
    for case in cases(folder):
        if failure(case) is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    print(int(passed + failed + skipped > 0), passed, failed, skipped)


def failures(folder):
    for case in cases(folder):
        if (text := failure(case)) is not None:
            print(case.get("name"))
            for line in text.splitlines()[:MOST_LINES]:
                print(f"    {line[:300]}")


{"count": count, "failures": failures}[sys.argv[1]](sys.argv[2])
