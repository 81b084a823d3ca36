"""The machine: its description, whether it is idle enough to measure, and the CPU time of processes."""

import os
import pathlib
import platform
import subprocess
import sys
import time

SERVER_CORE, GENERATOR_CORE = 0, 1


def fail_if_unfit(anyway):
    """Exits if the machine has one core, or if other programs use it."""
    if os.cpu_count() < 2:
        sys.exit("bench: needs two cores: one for the server, one for the generator")
    busy = busy_share(2)
    if busy > 0.05:
        print(f"bench: this machine is {busy:.0%} busy with something else", file=sys.stderr)
        if not anyway:
            sys.exit("bench: the figures would not be reliable: end the other programs, or pass --anyway")


def busy_share(seconds):
    """The share of all cores that was in use, or stolen by the host, during SECONDS."""
    before = _times()
    time.sleep(seconds)
    spent = [after - before for before, after in zip(before, _times())]
    idle = spent[3] + spent[4]
    return 1 - idle / sum(spent)


def _times():
    return [int(ticks) for ticks in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


def description():
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    memory = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal"))) / 2**20
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "kernel": platform.release(),
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}


def tree(pid):
    """A process and all its descendants."""
    children = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    try:
        below = [int(child) for path in children for child in path.read_text().split()]
    except OSError:
        return []
    return [pid, *(found for child in below for found in tree(child))]


def cpu_seconds(pids):
    """User and system time of these processes."""
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def version(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "?"
