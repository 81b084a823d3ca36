"""A papo-server on loopback, and a room of one server or of two that share a RabbitMQ."""

import asyncio
import itertools
import os
import random
import secrets
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN = 60.0
# These ports are outside the kernel's ephemeral range, so only another test run can use one.
PORTS = range(10_000, 20_000)
TRIES = 5
AMQP = os.environ.get("PAPO_TEST_AMQP")
# Limits by address that no test reaches: all clients of a test have one address.
NO_ADDRESS_LIMITS = {
    "PAPO_ADDRESS_MESSAGES_PER_SECOND": "1000000",
    "PAPO_ADDRESS_MESSAGE_BURST": "1000000",
    "PAPO_ADDRESS_BYTES_PER_SECOND": "100000000",
    "PAPO_ADDRESS_BYTE_BURST": "1073741824",
    "PAPO_ADDRESS_CONNECTIONS": "1000000",
    "PAPO_ADDRESS_CONNECTS_PER_SECOND": "1000000",
    "PAPO_ADDRESS_CONNECT_BURST": "1000000",
}


def binary() -> str:
    """PAPO_SERVER, or cargo's release or debug build."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    candidates = [os.environ.get("PAPO_SERVER"), target / "release/papo-server", target / "debug/papo-server"]
    for path in candidates:
        if path and Path(path).exists():
            return str(path)
    raise FileNotFoundError("no papo-server: build it (cargo build -p papo-server) or name it in PAPO_SERVER")


class PapoServer:
    """A server. `await PapoServer.start(test, ...)` starts one that stops when the test ends."""

    @classmethod
    async def start(cls, test, *flags: str) -> "PapoServer":
        for _ in range(TRIES):
            server = cls()
            server.port, admin = random.sample(PORTS, 2)
            addresses = ["--listen", f"127.0.0.1:{server.port}", "--admin-listen", f"127.0.0.1:{admin}"]
            quiet = asyncio.subprocess.DEVNULL
            server.process = await asyncio.create_subprocess_exec(binary(), *addresses, *flags, stdout=quiet, stderr=quiet, env={**NO_ADDRESS_LIMITS, **os.environ})
            test.addAsyncCleanup(server.kill)
            readyz = f"http://127.0.0.1:{admin}/readyz"
            await until("papo-server is ready", lambda: server.has_ended or server.is_ready(readyz), READY_WITHIN)
            # Only the bind tells whether a port is free, so the next try uses others.
            if not server.has_ended:
                return server
        raise RuntimeError(f"papo-server exited {TRIES} times, the last time with {server.process.returncode}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def has_ended(self) -> bool:
        return self.process.returncode is not None

    def is_ready(self, readyz: str) -> bool:
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
    """Starts a room; returns two URLs: twice that of one server, or those of two servers on one RabbitMQ."""
    unlimited = flags if "--message-burst" in flags else ("--message-burst", "100000", *flags)
    if not test.amqp:
        server = await PapoServer.start(test, *unlimited)
        return server.url, server.url
    name = f"default/python-{secrets.token_hex(6)}"
    here, there = await shared(test, "--broker", test.amqp, "--declare", "--room", name, *unlimited)
    return here.url, there.url


async def shared(test, *flags: str) -> tuple[PapoServer, PapoServer]:
    """Starts two servers that know each other's sessions. Without a broker each of them has a log of its own."""
    with tempfile.NamedTemporaryFile("w", prefix="papo-session-key-", delete=False) as key:
        key.write(secrets.token_hex(32))
    test.addCleanup(os.unlink, key.name)
    known = ("--session-key", key.name, "--advertise", "127.0.0.1", *flags)
    return await PapoServer.start(test, *known), await PapoServer.start(test, *known)


async def balanced(test, *servers: PapoServer) -> str:
    """The URL of a balancer without sticky sessions: each connection goes to the next server."""
    targets = itertools.cycle(servers)

    async def forward(reader, writer) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", next(targets).port)
        await asyncio.gather(copy(reader, server_writer), copy(server_reader, writer))

    async def copy(reader, writer) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    test.addCleanup(server.close)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def until(what: str, condition, seconds: float = 60.0):
    """Calls `condition` until its result is truthy, for at most `seconds`; returns that result."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.02)
    return result
