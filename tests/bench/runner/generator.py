"""Runs the load generator on its core."""

import json
import subprocess
import time

import machine
from contenders import TARGET

# Above this share of its core the generator may limit the result, so the result does not count.
MOST_OF_ITS_CORE = 0.8


def _command(server_pids, arguments):
    pids = ",".join(map(str, server_pids))
    return ["taskset", "-c", str(machine.GENERATOR_CORE), str(TARGET / "papo-bench"), "--server-pids", pids, *map(str, arguments)]


def once(server_pids, *arguments, limit=300):
    """Runs a mode of the generator that prints one report; returns the report."""
    result = subprocess.run(_command(server_pids, arguments), capture_output=True, text=True, timeout=limit)
    if result.returncode:
        return {"failed": result.stderr.strip()}
    return json.loads(result.stdout)


class HungUp(RuntimeError):
    """The server has ended a connection."""


class Load:
    """Connected sockets, which send at the rate that `run` gives."""

    def __init__(self, server_pids, rooms, sockets, senders, broker_pids=()):
        arguments = ["load", "--sockets", sockets, "--senders", senders]
        for servers in rooms:
            arguments += ["--room", ",".join(f"127.0.0.1:{port}" for port in servers)]
        if broker_pids:
            arguments += ["--broker-pids", ",".join(map(str, broker_pids))]
        self.command = _command(server_pids, arguments)

    def __enter__(self):
        self.process = subprocess.Popen(self.command, text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        try:
            self._answer()
        except RuntimeError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def connect_again(self):
        """Connects all sockets again, for up to 60 s: an overloaded server may not accept them at first."""
        limit = time.monotonic() + 60
        while True:
            self.__exit__()
            try:
                return self.__enter__()
            except RuntimeError:
                if time.monotonic() > limit:
                    raise

    def run(self, rate, seconds):
        """Sends RATE messages per second, over all rooms, for SECONDS; returns the report."""
        self.process.stdin.write(f"{rate} {seconds}\n")
        report = self._answer()
        report["is_valid"] = report["generator_share"] < MOST_OF_ITS_CORE
        return report

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            error = self.process.stderr.read().partition("\n")[0]
            has_hung_up = "the server closed a connection" in error or "the server hung up" in error
            raise (HungUp if has_hung_up else RuntimeError)(f"the load generator ended: {error}")
        return json.loads(line)
