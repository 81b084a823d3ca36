"""Measures Papo, Node's Socket.IO, Flask-SocketIO and a floor, and writes JSON, tables and a plot into results/."""

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
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="number of repetitions, alternating between the contenders (5)")
    parser.add_argument("--quick", action="store_true", help="measure once, for a shorter time and with fewer sockets, as a check; do not compare these figures")
    parser.add_argument("--only", nargs="+", choices=[c.name for c in CONTENDERS], metavar="CONTENDER",
                        help="some of " + ", ".join(c.name for c in CONTENDERS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help="some of " + ", ".join(PARTS))
    parser.add_argument("--anyway", action="store_true", help="measure even if the machine is busy")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS, metavar="DIR", help="folder for the results (tests/bench/results)")
    parser.add_argument("--docs", action="store_true", help="also write the figures into docs/benchmark.md")
    parser.add_argument("--render", type=pathlib.Path, metavar="JSON", help="measure nothing; write the tables and the plot of this file")
    return parser.parse_args()


def main():
    options = arguments()
    if options.render:
        measured = [json.loads(options.render.read_text())]
    else:
        machine.fail_if_unfit(options.anyway)
        measured = measure.everything(options)
    options.output.mkdir(parents=True, exist_ok=True)
    # The results are written after each repetition, so an interrupted run keeps its finished repetitions.
    for results in measured:
        report.write(results, options.output)
        if options.docs:
            report.write_page(results)
    print((options.output / "results.md").read_text())


try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
