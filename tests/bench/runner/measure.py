"""The measurements and their order."""

import contextlib
import random
import statistics
import sys
import time

import machine
from contenders import CONTENDERS, Broker, Running, papo, versions
from generator import HungUp, Load, once

WITHIN_MS = 50
# A load that nearly every contender can sustain: it compares the cost of the same work.
FEW_SOCKETS, FIXED_RATES = 100, [100, 1000]
# Messages per second, for a contender that meets the time limit at no rate.
SLOW_RATE = 2
SHARES = [0.25, 0.5, 0.75]
MANY_ROOMS = 8
# The number of servers of each room, and of those servers that have members.
ROOMS = {"3 servers each": (3, 3), "10 servers each": (10, 10), "10 servers each, members on 3 of them": (10, 3)}


def say(text):
    print(f"bench: {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def everything(options):
    """Yields the results so far after each repetition."""
    chosen = [c for c in CONTENDERS if not options.only or c.name in options.only]
    size = QUICK if options.quick else FULL
    repetitions = 1 if options.quick else options.repetitions
    results = {"machine": machine.description(), "versions": versions(), "size": size, "quick": options.quick,
               "repetitions": 0, "contenders": {c.name: c.title for c in chosen},
               "runs": {part: {} for part in options.parts}, "busy": []}
    needs_broker = any(c.needs_broker for c in chosen) or "rooms" in options.parts
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(Broker()) if needs_broker else None
        for repetition in range(repetitions):
            results["busy"].append(machine.busy_share(1))
            # The order alternates, so that a drift of the machine affects all contenders alike.
            for contender in chosen[::-1] if repetition % 2 else chosen:
                for part in options.parts:
                    if part in contender.parts:
                        _attempt(results, part, contender.name, PARTS[part], contender, broker, size,
                                 results["runs"][part].get(contender.name, []))
            if "rooms" in options.parts:
                for title, (servers, attended) in ROOMS.items():
                    _attempt(results, "rooms", title, many_rooms, servers, attended, broker, size)
            results["repetitions"] = repetition + 1
            say(f"repetition {repetition + 1} of {repetitions} is done")
            yield results


def _attempt(results, part, key, measurement, *arguments):
    """Runs one repetition of one measurement, and records its result or its failure."""
    try:
        result = measurement(*arguments)
    except (RuntimeError, OSError, ValueError) as error:
        result = {"failed": str(error)}
    say(f"{part} {key}: {_short(result)}")
    results["runs"][part].setdefault(key, []).append(result)


def _short(result):
    if "failed" in result:
        return f"FAILED: {result['failed']}"
    if "highest" in result:
        best = result["highest"]
        if not best:
            return f"no rate within the limit; p99 {result['slow']['delivery']['p99_ms']:.0f} ms at {SLOW_RATE} messages/s"
        return (f"{best['deliveries_per_s']:.0f} deliveries/s, {best['server_us_per_delivery']:.2f} us each, "
                f"p99 {best['delivery']['p99_ms']:.1f} ms, generator {best['generator_share']:.0%}")
    return " ".join(f"{key}={value:.6g}" for key, value in result.items() if isinstance(value, (int, float)))


@contextlib.contextmanager
def _server(contender, broker):
    port = random.randrange(10000, 19000, 2)
    with Running(contender.command(port, broker.url if broker else None), port) as server:
        yield server


def load(contender, broker, size, earlier):
    """Measures at fixed rates, at the highest rate within the time limit, and at shares of that rate."""
    with _server(contender, broker) as server:
        pids = broker.pids if contender.needs_broker else ()
        result = {"at_few": {}, "at": {}, "shares": {}, "tried": []}
        with Load(server.pids, [[server.port]], FEW_SOCKETS, size["senders"], pids) as sockets:
            sockets.run(5, 1)  # warm
            for rate in FIXED_RATES:
                result["at_few"][str(rate)] = sockets.run(rate, size["seconds"])
        with Load(server.pids, [[server.port]], size["sockets"], size["senders"], pids) as sockets:
            known = [run["highest"]["rate"] for run in earlier if run.get("highest")]
            highest = search(sockets, size, result["tried"], statistics.median(known) if known else None)
            result["highest"] = highest
            # In this case the server can deliver more than the result says.
            result["generators_limit"] = any(one["keeps_up"] and not one["is_valid"] and one["rate"] > (highest or one)["rate"]
                                             for one in result["tried"])
            if not highest:
                result["slow"] = sockets.run(SLOW_RATE, 2 * size["seconds"])
                return result
            for rate in FIXED_RATES:
                if rate <= highest["rate"]:
                    result["at"][str(rate)] = sockets.run(rate, size["seconds"])
            for share in SHARES:
                result["shares"][str(share)] = sockets.run(highest["rate"] * share, size["seconds"])
            return result


def search(sockets, size, tried, known):
    """The report of the highest rate within the time limit. Searches in steps, then by bisection; around a known rate with smaller steps.

    A rate that misses the limit by little is tried once more. A run in which the generator is too busy does not count, but the search
    continues: at higher rates one read gets several messages, and the generator is less busy."""
    low, high, best = None, None, None
    step, rate = (1.15, known) if known else (2, 20)
    while len(tried) < 16:
        report = probe(sockets, rate, size)
        if not keeps_up(report) and is_close(report):
            report = probe(sockets, rate, size)
        tried.append({key: report.get(key) for key in ("rate", "generator_share", "is_valid", "hung_up")} |
                     {key: report["delivery"][key] for key in ("p99_ms", "missing")} | {"keeps_up": keeps_up(report)})
        if keeps_up(report):
            low = rate
            if report["is_valid"]:
                best = report
        else:
            high = rate
        if low is None:
            rate = high / step
            if rate < 1:
                return None
        elif high is None:
            rate = low * step
        elif high / low < size["precision"]:
            return best
        else:
            rate = (low * high) ** 0.5
    return best


def probe(sockets, rate, size):
    """Measures at one rate. If an overloaded server closes connections, the report says `hung_up`."""
    try:
        return sockets.run(rate, size["seconds"])
    except HungUp:
        sockets.connect_again()
        return {"rate": rate, "hung_up": True, "delivery": {"p99_ms": None, "missing": None}}


def keeps_up(report):
    return is_within(report, WITHIN_MS)


def is_close(report):
    """Whether the rate misses the limit by so little that a pause of the machine can be the cause."""
    return is_within(report, 4 * WITHIN_MS)


def is_within(report, milliseconds):
    delivery = report["delivery"]
    return "hung_up" not in report and delivery["missing"] == delivery["surplus"] == 0 and delivery["p99_ms"] < milliseconds


def idle(contender, broker, size, _earlier):
    with _server(contender, broker) as server:
        return once(server.pids, "idle", f"127.0.0.1:{server.port}", "--sockets", size["idle"])


def reconnect(contender, broker, size, _earlier):
    with _server(contender, broker) as server:
        return once(server.pids, "reconnect", f"127.0.0.1:{server.port}", "--sockets", size["reconnect"],
                    "--messages", size["missed"], "--recovery", contender.recovery)


def many_rooms(servers, attended, broker, size):
    """Measures the broker's CPU time per message, with rooms of SERVERS servers each and members on ATTENDED of these servers."""
    with contextlib.ExitStack() as stack:
        base = random.randrange(10000, 18000, 2)
        ports = [[base + 2 * (room * servers + server) for server in range(servers)] for room in range(MANY_ROOMS)]
        name = f"bench/{base}-{servers}-{time.time_ns()}"
        # A server without members stops reading the log after one second instead of one minute.
        running = [stack.enter_context(Running([*papo(port, broker.url, f"{name}-{room}"), "--reader-idle-timeout", "1"], port))
                   for room, group in enumerate(ports) for port in group]
        members = stack.enter_context(Load([pid for one in running for pid in one.pids], [group[:attended] for group in ports],
                                           MANY_ROOMS * size["members"], 10, broker.pids))
        members.run(MANY_ROOMS, 1)  # warm
        before, seconds = machine.cpu_seconds(broker.pids), 5
        time.sleep(seconds)
        idle_share = (machine.cpu_seconds(broker.pids) - before) / seconds
        report = members.run(MANY_ROOMS * 10, 2 * size["seconds"])
        own = report["broker_s"] - idle_share * report["elapsed_s"]
        return {"rooms": MANY_ROOMS, "servers": servers, "missing": report["delivery"]["missing"],
                "broker_idle_share": idle_share, "broker_us_per_message_with_idle": report["broker_us_per_message"],
                "broker_us_per_message": own * 1e6 / report["messages"], "p99_ms": report["delivery"]["p99_ms"],
                "server_us_per_delivery": report["server_us_per_delivery"]}


PARTS = {"load": load, "idle": idle, "reconnect": reconnect}
FULL = {"sockets": 1000, "senders": 10, "seconds": 3, "precision": 1.08, "idle": 10_000, "reconnect": 5000, "missed": 1000, "members": 30}
QUICK = {"sockets": 1000, "senders": 10, "seconds": 1, "precision": 1.3, "idle": 2000, "reconnect": 500, "missed": 200, "members": 10}
