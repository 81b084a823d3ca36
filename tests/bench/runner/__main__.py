"""Measures Papo, Node's Socket.IO, Flask-SocketIO and a floor side by side, and writes results/: JSON, a table, a plot."""

import argparse
import json
import pathlib
import sys

import machine
import measure
import report
from contenders import CONTENDERS

RESULTS = pathlib.Path(__file__).parent.parent / "results"
PARTS = ["load", "idle", "reconnect", "rooms"]


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="how often, alternating the contenders (5)")
    parser.add_argument("--quick", action="store_true", help="once, shorter and with fewer sockets: is all in order? Not for comparing")
    parser.add_argument("--only", nargs="+", choices=[c.name for c in CONTENDERS], metavar="CONTENDER",
                        help="some of " + ", ".join(c.name for c in CONTENDERS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help="some of " + ", ".join(PARTS))
    parser.add_argument("--anyway", action="store_true", help="measure although the machine is busy")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS, metavar="DIR", help="where to write (tests/bench/results)")
    parser.add_argument("--docs", action="store_true", help="put the figures into docs/benchmark.md too")
    parser.add_argument("--render", type=pathlib.Path, metavar="JSON", help="only draw what was measured before")
    return parser.parse_args()


def main():
    options = arguments()
    if options.render:
        measured = [json.loads(options.render.read_text())]
    else:
        machine.fail_if_unfit(options.anyway)
        measured = measure.everything(options)
    options.output.mkdir(parents=True, exist_ok=True)
    # Written after each repetition: a run that is broken off has not been for nothing.
    for results in measured:
        report.write(results, options.output)
        if options.docs:
            report.write_page(results)
    print((options.output / "results.md").read_text())


try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
