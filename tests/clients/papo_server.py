"""A papo-server of our own on loopback, and a room of one server or of two that share a RabbitMQ."""

import asyncio
import os
import secrets
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN = 20.0
AMQP = os.environ.get("PAPO_TEST_AMQP")


def binary() -> str:
    """PAPO_SERVER, or what cargo built last."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    candidates = [os.environ.get("PAPO_SERVER"), target / "release/papo-server", target / "debug/papo-server"]
    for path in candidates:
        if path and Path(path).exists():
            return str(path)
    raise FileNotFoundError("no papo-server: build it (cargo build -p papo-server) or name it in PAPO_SERVER")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class PapoServer:
    """One server; `await PapoServer.start(test, ...)` ends it with the test."""

    @classmethod
    async def start(cls, test, *flags: str) -> "PapoServer":
        server = cls()
        server.port, admin = free_port(), free_port()
        addresses = ["--listen", f"127.0.0.1:{server.port}", "--admin-listen", f"127.0.0.1:{admin}"]
        quiet = asyncio.subprocess.DEVNULL
        server.process = await asyncio.create_subprocess_exec(binary(), *addresses, *flags, stdout=quiet, stderr=quiet)
        test.addAsyncCleanup(server.kill)
        await until("papo-server is ready", lambda: server.is_ready(f"http://127.0.0.1:{admin}/readyz"), READY_WITHIN)
        return server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def is_ready(self, readyz: str) -> bool:
        if self.process.returncode is not None:
            raise RuntimeError(f"papo-server ended with {self.process.returncode}")
        try:
            with urllib.request.urlopen(readyz, timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


async def room(test, *flags: str) -> tuple[str, str]:
    """The addresses of two places in one room: the same server, or two on one RabbitMQ."""
    patient = flags if "--message-burst" in flags else ("--message-burst", "100000", *flags)
    if not test.amqp:
        server = await PapoServer.start(test, *patient)
        return server.url, server.url
    name = f"default/python-{secrets.token_hex(6)}"
    shared = ("--broker", test.amqp, "--declare", "--room", name, *patient)
    return (await PapoServer.start(test, *shared)).url, (await PapoServer.start(test, *shared)).url


async def until(what: str, condition, seconds: float = 15.0):
    """The first truthy result of `condition`, asked again and again."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.02)
    return result
