"""Tests who may enter a real papo-server, with the official Python client, python-socketio, and the tokens of a real issuer."""

import asyncio
import json
import tempfile
import unittest
from pathlib import Path

import socketio

from papo_server import AMQP, room, until
from test_python_socketio import Client

PEOPLE = {"ana": {"name": "Ana Souza", "groups": ["staff"]}, "eva": {"name": "Eva", "groups": ["others"]}}


class Issuer:
    """An issuer in a process of its own (issuer.mjs). `await Issuer.start(test)` starts one that stops when the test ends."""

    @classmethod
    async def start(cls, test) -> "Issuer":
        issuer = cls()
        pipe = asyncio.subprocess.PIPE
        program = Path(__file__).with_name("issuer.mjs")
        issuer.process = await asyncio.create_subprocess_exec("node", program, json.dumps(PEOPLE), stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL)
        test.addAsyncCleanup(issuer.stop)
        issuer.access = json.loads(await issuer.process.stdout.readline())
        return issuer

    async def token(self, login: str, **options) -> str:
        self.process.stdin.write(json.dumps({"login": login, **options}).encode() + b"\n")
        return (await self.process.stdout.readline()).decode().strip()

    async def stop(self) -> None:
        self.process.stdin.close()
        await self.process.wait()


async def begin(test, **rules) -> tuple[Issuer, str, str]:
    """An issuer, and the two URLs of a room that takes its tokens under these rules."""
    issuer = await Issuer.start(test)
    folder = tempfile.TemporaryDirectory(prefix="papo-access-")
    test.addCleanup(folder.cleanup)
    file = Path(folder.name) / "access.json"
    file.write_text(json.dumps({**issuer.access, **rules}))
    return issuer, *await room(test, "--access", str(file))


async def rejection(url: str, auth=None, headers=None) -> str:
    """The code with which the server rejects a client."""
    client, rejections = socketio.AsyncClient(reconnection=False), []

    async def on_rejected(data) -> None:
        rejections.append(data)

    client.on("connect_error", on_rejected)
    try:
        await client.connect(url, auth=auth, headers=headers or {}, transports=["websocket"])
    except socketio.exceptions.ConnectionError:
        pass
    await until("the reason arrives", lambda: rejections)
    return rejections[0].get("data", rejections[0])["code"]


class SingleServer(unittest.IsolatedAsyncioTestCase):
    amqp = None

    async def test_a_token_says_who_somebody_is(self):
        issuer, here, there = await begin(self, guests="Read")
        ana = await Client.join(self, here, {"accessToken": await issuer.token("ana")})
        guest = await Client.join(self, there, {"name": "Rui"})
        self.assertEqual([(client.histories[0]["you"]["user"], client.histories[0]["you"]["verified"], sorted(client.histories[0]["you"]["may"])) for client in (ana, guest)], [("Ana Souza", True, ["read", "write"]), ("Rui", False, ["read"])])
        self.assertTrue((await ana.ask("message", "verificada"))["ok"])
        self.assertTrue((await guest.sees("verificada"))["verified"])
        self.assertEqual((await guest.ask("message", "posso?"))["code"], "forbidden")

    async def test_a_token_can_come_in_the_header(self):
        issuer, here, _ = await begin(self, guests="None")
        client = Client()
        self.addAsyncCleanup(client.socket.disconnect)
        # The client's defaults: long-polling, and then an upgrade.
        await client.socket.connect(here, headers={"Authorization": f"Bearer {await issuer.token('ana')}"})
        await until("the history arrives", lambda: client.histories)
        self.assertEqual(client.histories[0]["you"]["user"], "Ana Souza")

    async def test_tokens_that_are_not_accepted_are_rejected_with_a_code(self):
        issuer, here, _ = await begin(self, guests="None", read=["group:staff"], write=["group:staff"])
        for token, code in (
            (None, "unauthenticated"),
            ("a.b.c", "unauthenticated"),
            (await issuer.token("ana", audience="another program"), "unauthenticated"),
            (await issuer.token("ana", lifetime=-120), "token_expired"),
            (await issuer.token("eva"), "forbidden"),
        ):
            with self.subTest(code=code, token=token):
                self.assertEqual(await rejection(here, token and {"accessToken": token}), code)
        self.assertEqual(await rejection(here, headers={"Authorization": "Bearer a.b.c"}), "unauthenticated")

    async def test_a_new_token_on_an_open_connection_keeps_it(self):
        issuer, here, _ = await begin(self, guests="None")
        client, expiring, gone = Client(), [], []

        async def on_expiring(event) -> None:
            expiring.append(event)

        async def on_gone(*_) -> None:
            gone.append(True)

        client.socket.on("token_expiring", on_expiring)
        client.socket.on("disconnect", on_gone)
        self.addAsyncCleanup(client.socket.disconnect)
        await client.socket.connect(here, auth={"accessToken": await issuer.token("ana", lifetime=6)}, transports=["websocket"])
        await until("the server asks for a new token", lambda: expiring)
        self.assertTrue(0 < expiring[0]["in"] <= 6_000, expiring)
        answer = await client.ask("token", await issuer.token("ana"))
        self.assertEqual((answer["ok"], answer["you"]["user"]), (True, "Ana Souza"))
        self.assertEqual((await client.ask("token", await issuer.token("eva")))["code"], "forbidden")
        self.assertTrue((await client.ask("message", "a mesma conexão"))["ok"])
        self.assertEqual(gone, [])


@unittest.skipUnless(AMQP, "PAPO_TEST_AMQP names no RabbitMQ")
class TwoServersThatShareRabbitMQ(SingleServer):
    amqp = AMQP
