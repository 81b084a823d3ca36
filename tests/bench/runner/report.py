"""Writes the measurements as results.json, results.md and results.svg, and into docs/benchmark.md."""

import itertools
import json
import pathlib
import statistics

import plot
from measure import FEW_SOCKETS, FIXED_RATES

# A server that uses this share of its core or more is saturated.
SATURATED = 0.97
DOCS = pathlib.Path(__file__).parent.parent.parent.parent / "docs"
PAGE = DOCS / "benchmark.md"
BEGIN, END = "<!-- figures: written by `make bench` -->", "<!-- end of figures -->"


def write(results, folder):
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "results.md").write_text(markdown(results))
    (folder / "results.svg").write_text(plot.picture(bars(results)))


def write_page(results):
    """Writes the tables and the circumstances between the marks of the page, and the plot beside the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    tables = "\n".join(_tables(results)).strip()
    picture = "![The same figures as bars](benchmark.svg)"
    PAGE.write_text(f"{before}{BEGIN}\n{tables}\n\n{picture}\n\n{_circumstances(results)[0]}\n{END}{after}")
    (DOCS / "benchmark.svg").write_text(plot.picture(bars(results)))


def values(results, part, key, *path):
    """One figure of every repetition that did not fail."""
    found = []
    for run in results["runs"].get(part, {}).get(key, []):
        for step in path:
            run = run.get(step) if isinstance(run, dict) else None
        if run is not None:
            found.append(run)
    return found


def median(found):
    return statistics.median(found) if found else None


def shown(found, scale=1.0):
    """Median and range, to three digits."""
    if not found:
        return "–"
    low, middle, high = (three(number * scale) for number in (min(found), statistics.median(found), max(found)))
    return middle if low == high else f"{middle} ({low}–{high})"


def three(number):
    if abs(number) >= 100:
        return f"{float(f'{number:.3g}'):,.0f}"
    return f"{number:.3g}"


ROWS = [
    ("highest deliveries/s, p99 < 50 ms, none missing", "load", ("highest", "deliveries_per_s"), 1),
    ("CPU µs per delivery at the highest", "load", ("highest", "server_us_per_delivery"), 1),
    ("CPU µs per delivery at 100 messages/s", "load", ("at", "100", "server_us_per_delivery"), 1),
    ("CPU µs per delivery at 1000 messages/s", "load", ("at", "1000", "server_us_per_delivery"), 1),
    ("CPU µs per delivery at 100 messages/s to 100 sockets", "load", ("at_few", "100", "server_us_per_delivery"), 1),
    ("CPU µs per delivery at 1000 messages/s to 100 sockets", "load", ("at_few", "1000", "server_us_per_delivery"), 1),
    ("CPU µs per delivery at 2 messages/s, where no rate is within 50 ms", "load", ("slow", "server_us_per_delivery"), 1),
    ("share of the server's core at the highest, %", "load", ("highest", "server_share"), 100),
    ("memory per idle connection, kB", "idle", ("bytes_per_connection",), 1e-3),
    ("all back with what they missed, s", "reconnect", ("all_s",), 1),
    ("  missing of it", "reconnect", ("missing",), 1),
    ("generator's share of its core at the highest, %", "load", ("highest", "generator_share"), 100),
]
# The loads at which latencies are measured: shares of the highest rate, or a fixed rate.
LOADS = {"25%": ("shares", "0.25"), "50%": ("shares", "0.5"), "75%": ("shares", "0.75"), "2 messages/s": ("slow",)}


def markdown(results):
    return "\n".join([*_tables(results), *_circumstances(results)]) + "\n"


def _tables(results):
    contenders = results["contenders"]
    lines = ["| median (lowest–highest) | " + " | ".join(contenders.values()) + " |", "| --- |" + " --- |" * len(contenders)]

    def row(label, cells):
        if any(cell != "–" for cell in cells):
            lines.append(f"| {label} | " + " | ".join(cells) + " |")

    for label, part, path, scale in ROWS[:-1]:
        row(label, [shown(values(results, part, name, *path), scale) for name in contenders])
    for kind, label in [("delivery", "delivery"), ("ack", "acknowledgement")]:
        for load, path in LOADS.items():
            row(f"{label} at {load}: p50 / p99 / p99.9, ms", [_latencies(results, name, (*path, kind)) for name in contenders])
    label, part, path, scale = ROWS[-1]
    row(label, [shown(values(results, part, name, *path), scale) for name in contenders])
    return [*lines, "", *_saturated(results), *_rooms(results), *_ratios(results)]


def _saturated(results):
    """A sentence for each figure at a fixed rate whose server has no time left: it is a limit, not the cost of a delivery."""
    lines = []
    for key, sockets in [("at", results["size"]["sockets"]), ("at_few", FEW_SOCKETS)]:
        for rate, (name, title) in itertools.product(FIXED_RATES, results["contenders"].items()):
            share, cost = (median(values(results, "load", name, key, str(rate), figure)) for figure in ("server_share", "server_us_per_delivery"))
            if share is not None and share >= SATURATED:
                lines += [f"At {rate} messages/s to {sockets} sockets, *{title}* saturates its core ({share * 100:.0f} % busy): its {three(cost)} µs are "
                          "the core's whole time divided by the deliveries, so do not compare them with the other figures of that row.", ""]
    return lines


def _latencies(results, name, path):
    found = [median(values(results, "load", name, *path, quantile)) for quantile in ("p50_ms", "p99_ms", "p999_ms")]
    return "–" if None in found else " / ".join(map(three, found))


def _rooms(results):
    if not results["runs"].get("rooms"):
        return []
    lines = ["| small rooms, deployed as by the operator | broker CPU µs per message | broker's idle share of a core, % |", "| --- | --- | --- |"]
    for deployed in results["runs"]["rooms"]:
        count = max(values(results, "rooms", deployed, "rooms"), default="?")
        lines.append(f"| {count} rooms, {deployed} | {shown(values(results, 'rooms', deployed, 'broker_us_per_message'))} | "
                     f"{shown(values(results, 'rooms', deployed, 'broker_idle_share'), 100)} |")
    return [*lines, ""]


# The ratios: label, part, the two contenders, the figure, and its target.
RATIOS = [
    ("deliveries per core, Papo : Node", "load", "papo", "node", ("highest", "deliveries_per_s"), "at least 5"),
    ("CPU per delivery at the highest, Papo : floor", "load", "papo", "floor", ("highest", "server_us_per_delivery"), "at most 1.5"),
    ("CPU per delivery at 1000 messages/s to 1000 sockets, Papo : floor", "load", "papo", "floor",
     ("at", "1000", "server_us_per_delivery"), "at most 1.5"),
    ("CPU per delivery at 100 messages/s to 100 sockets, Papo : floor", "load", "papo", "floor",
     ("at_few", "100", "server_us_per_delivery"), "at most 2"),
    ("CPU per delivery at 100 messages/s to 1000 sockets, Papo : floor", "load", "papo", "floor",
     ("at", "100", "server_us_per_delivery"), "at most 2"),
    ("memory per idle connection, Papo : Node", "idle", "papo", "node", ("bytes_per_connection",), "at most 0.5"),
    ("CPU per delivery at 100 messages/s to 1000 sockets, Papo on RabbitMQ : embedded", "load", "papo-rabbitmq", "papo",
     ("at", "100", "server_us_per_delivery"), "0.8 to 1.2"),
    ("CPU per delivery at 1000 messages/s to 1000 sockets, Papo on RabbitMQ : embedded", "load", "papo-rabbitmq", "papo",
     ("at", "1000", "server_us_per_delivery"), "0.8 to 1.2"),
    ("CPU per delivery at 100 messages/s to 100 sockets, Papo on RabbitMQ : embedded", "load", "papo-rabbitmq", "papo",
     ("at_few", "100", "server_us_per_delivery"), "0.8 to 1.2"),
    ("CPU per delivery at 1000 messages/s to 100 sockets, Papo on RabbitMQ : embedded", "load", "papo-rabbitmq", "papo",
     ("at_few", "1000", "server_us_per_delivery"), "0.8 to 1.2"),
    # At higher rates more messages share a system call, and a delivery costs less: this ratio compares different rates.
    ("CPU per delivery at the highest of each, Papo on RabbitMQ : embedded", "load", "papo-rabbitmq", "papo",
     ("highest", "server_us_per_delivery"), "rates differ"),
]


def _ratios(results):
    lines = []
    for label, part, one, other, path, target in RATIOS:
        pair = [median(values(results, part, name, *path)) for name in (one, other)]
        if all(pair):
            lines.append(f"| {label} | {three(pair[0] / pair[1])} | {target} |")
    return ["| ratio of medians | | target |", "| --- | --- | --- |", *lines, ""] if lines else []


def _circumstances(results):
    machine, versions, size = results["machine"], results["versions"], results["size"]
    limited = [name for name in results["contenders"] if any(values(results, "load", name, "generators_limit"))]
    failures = [f"{part} {name}: {run['failed'].strip().splitlines()[-1]}" for part, runs in results["runs"].items() for name, all_of_it in runs.items()
                for run in all_of_it if "failed" in run]
    busy = f"{max(results['busy'], default=0):.0%}"
    return [
        f"{size['sockets']} sockets, one room, {size['senders']} senders, 64-byte texts; {results['repetitions']} repetitions"
        f"{' (--quick: not for comparing)' if results['quick'] else ''}; {size['idle']} idle; "
        f"{size['reconnect']} reconnect and missed {size['missed']}. "
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}, {machine['date']}; "
        f"at most {busy} busy with something else before a repetition. " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        *[f"\nThe generator limits the highest rate of {name} in some repetitions: {name} can deliver more." for name in limited],
        *[f"\nFailed: {failure}" for failure in failures]]


def bars(results):
    """The panels of the plot: for each, its title and (label, median, lowest, highest) of each contender."""
    panels = [("deliveries per second, on one core", ROWS[0]), ("CPU µs per delivery, at the highest rate", ROWS[1]),
              ("kB per idle connection", next(row for row in ROWS if row[1] == "idle"))]
    drawn = []
    for title, (_, part, path, scale) in panels:
        of_all = [(label, [value * scale for value in values(results, part, name, *path)]) for name, label in results["contenders"].items()]
        drawn.append((title, [(label, median(found), min(found), max(found)) for label, found in of_all if found]))
    return [panel for panel in drawn if panel[1]]
