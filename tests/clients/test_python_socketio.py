"""Tests a real papo-server with the official Python client, python-socketio."""

import asyncio
import unittest

import socketio

from papo_server import AMQP, balanced, room, shared, until

ANSWER_WITHIN = 20
# Seconds in which a client that cannot stay would have left.
STAYS = 3


class Client:
    """A member that records everything that the server sent."""

    def __init__(self) -> None:
        self.live, self.histories, self.presences, self.typing, self.events = [], [], [], [], []
        self.socket = socketio.AsyncClient(reconnection=False)
        self.socket.on("*", self._remember)
        self.socket.on("message", self._on_message)
        for event, memory in (("history", self.histories), ("presence", self.presences), ("typing", self.typing)):
            self.socket.on(event, self._into(event, memory))

    @classmethod
    async def join(cls, test, url: str, auth=None, transports=("websocket",)) -> "Client":
        client = cls()
        test.addAsyncCleanup(client.socket.disconnect)
        await client.socket.connect(url, auth=auth, transports=transports and list(transports))
        await until("the history arrives", lambda: client.histories)
        return client

    async def ask(self, event: str, *args):
        return await self.socket.call(event, args if len(args) != 1 else args[0], timeout=ANSWER_WITHIN)

    async def say(self, texts) -> list:
        return [await self.ask("message", text) for text in texts]

    async def sees(self, text: str) -> dict:
        return await until(f"{text!r} arrives", lambda: next((m for m in self.live if m["text"] == text), None))

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.live]

    async def _remember(self, event, *_args) -> None:
        self.events.append(event)

    async def _on_message(self, text, about) -> None:
        self.events.append("message")
        self.live.append({"text": text, **about})

    def _into(self, event: str, memory: list):
        async def take(body) -> None:
            self.events.append(event)
            memory.append(body)

        return take


def numbered(count: int, text: str = "m") -> list[str]:
    return [f"{text} {n + 1}" for n in range(count)]


def texts(messages) -> list[str]:
    return [message["text"] for message in messages]


class SingleServer(unittest.IsolatedAsyncioTestCase):
    amqp = None

    async def test_a_bare_text_reaches_everybody_its_sender_included(self):
        here, there = await room(self)
        ana, bia = await Client.join(self, here, {"name": "Ana"}), await Client.join(self, there)
        await ana.socket.send("olá")
        for client in (ana, bia):
            message = await client.sees("olá")
            self.assertEqual((message["user"], message["sender"]), ("Ana", ana.histories[0]["you"]["sender"]))
            self.assertEqual(set(message), {"text", "id", "offset", "user", "sender", "at"})

    async def test_an_acknowledgement_has_the_offset_and_epoch(self):
        here, there = await room(self)
        ana, bia = await Client.join(self, here), await Client.join(self, there)
        answer = await ana.ask("message", {"text": "dois", "id": "my-id"})
        self.assertEqual(answer, {"ok": True, "id": "my-id", "offset": answer["offset"], "epoch": ana.histories[0]["epoch"]})
        self.assertEqual((await bia.sees("dois"))["offset"], answer["offset"])
        self.assertEqual(await ana.ask("message", {"text": "dois", "id": "my-id"}), answer)

    async def test_200_messages_arrive_everywhere_once_and_in_order(self):
        here, there = await room(self)
        ana, bia = await Client.join(self, here), await Client.join(self, there)
        for text in numbered(200):
            await ana.socket.emit("message", text)
        for client in (ana, bia):
            await client.sees("m 200")
            self.assertEqual(client.texts, numbered(200))
        self.assertEqual([m["offset"] for m in ana.live], [m["offset"] for m in bia.live])

    async def test_a_late_joiner_gets_the_newest_page_before_live_messages(self):
        here, there = await room(self)
        ana, early = await Client.join(self, here), await Client.join(self, there)
        await ana.say(numbered(60))
        await early.sees("m 60")
        late = await Client.join(self, there)
        page = late.histories[0]
        self.assertEqual((texts(page["messages"]), page["recovered"], page["more"]), (numbered(60)[10:], False, True))
        await ana.say(["agora"])
        await late.sees("agora")
        self.assertLess(late.events.index("history"), late.events.index("message"))

    async def test_a_resumed_member_gets_exactly_the_missed_messages(self):
        here, there = await room(self)
        ana, bia = await Client.join(self, here), await Client.join(self, there, {"token": "the secret of Bia"})
        await ana.say(["antes"])
        seen = await bia.sees("antes")
        await bia.socket.disconnect()
        await ana.say(numbered(200))
        await ana.say(["depois"])
        position = {"token": "the secret of Bia", "epoch": bia.histories[0]["epoch"], "offset": seen["offset"]}
        back = await Client.join(self, here, position)
        self.assertTrue(back.histories[0]["recovered"])
        missed = lambda: texts(back.histories[0]["messages"]) + back.texts
        await until("the last message arrives", lambda: missed()[-1:] == ["depois"])
        self.assertEqual(missed(), [*numbered(200), "depois"])

    async def test_scrolling_back_reaches_the_beginning_of_the_log(self):
        here, _ = await room(self)
        ana = await Client.join(self, here)
        await ana.say(numbered(120))
        await ana.sees("m 120")
        late = await Client.join(self, here)
        messages, more = late.histories[0]["messages"], late.histories[0]["more"]
        while more:
            page = await late.ask("history", {"before": messages[0]["offset"], "limit": 30})
            self.assertTrue(page["ok"])
            messages, more = page["messages"] + messages, page["more"]
        self.assertEqual(texts(messages), numbered(120))

    async def test_presence_and_typing_reach_the_others(self):
        here, there = await room(self)
        ana = await Client.join(self, here, {"name": "Ana"})
        bia = await Client.join(self, there, {"name": "Bia"})
        await until("two are counted", lambda: ana.presences and ana.presences[-1]["count"] == 2)

        await until("Bia is counted with her", lambda: bia.presences and bia.presences[-1]["count"] == 2)
        await ana.socket.emit("typing")
        heard = await until("Bia sees Ana typing", lambda: bia.typing)
        self.assertEqual(heard[0], {"user": "Ana", "sender": ana.histories[0]["you"]["sender"]})
        self.assertEqual(ana.typing, [])
        await bia.socket.disconnect()
        await until("Ana is alone", lambda: ana.presences[-1]["count"] == 1)

    async def test_an_invalid_message_is_rejected_with_a_code(self):
        here, _ = await room(self, "--max-message-length", "10")
        ana = await Client.join(self, here)
        for argument, code in (
            ("", "empty_text"),
            ("x" * 11, "text_too_long"),
            ({"text": "oi", "id": "não"}, "invalid_id"),
            (7, "bad_request"),
            ({"texto": "oi"}, "bad_request"),
            (b"oi", "bad_request"),
            ({"text": b"oi"}, "bad_request"),
        ):
            with self.subTest(argument=argument):
                answer = await ana.ask("message", argument)
                self.assertEqual((answer["ok"], answer["code"]), (False, code))
        self.assertEqual((await ana.ask("shout", "oi"))["code"], "unknown_event")

    async def test_messages_above_the_rate_limit_are_rejected(self):
        here, _ = await room(self, "--message-burst", "3", "--max-messages-per-second", "1")
        ana = await Client.join(self, here)
        codes = [answer.get("code") for answer in await ana.say(numbered(6))]
        self.assertEqual(codes[:3], [None] * 3)
        self.assertIn("rate_limited", codes)

    async def test_an_invalid_name_is_rejected_with_a_code(self):
        here, _ = await room(self)
        client, rejections = socketio.AsyncClient(reconnection=False), []

        async def on_rejected(data) -> None:
            rejections.append(data)

        client.on("connect_error", on_rejected)
        with self.assertRaises(socketio.exceptions.ConnectionError):
            await client.connect(here, auth={"name": "  "}, transports=["websocket"])
        await until("the reason arrives", lambda: rejections)
        reason = rejections[0]
        self.assertEqual(reason.get("data", reason)["code"], "invalid_name")

    async def test_default_transports_work(self):
        here, there = await room(self)
        ana, bia = await Client.join(self, here, None, ("polling",)), await Client.join(self, there, None, None)
        self.assertEqual([client.socket.transport() for client in (ana, bia)], ["polling", "websocket"])
        await ana.say(numbered(10))
        for client in (ana, bia):
            await client.sees("m 10")
            self.assertEqual(client.texts, numbered(10))

    async def test_clients_upgrade_and_stay_behind_a_balancer_without_sticky_sessions(self):
        servers = await shared(self, "--message-burst", "100000")
        url = await balanced(self, *servers)
        clients = [await Client.join(self, url, None, None) for _ in range(6)]
        for number, client in enumerate(clients):
            await client.say([f"n {number}"])
            await client.sees(f"n {number}")
        await asyncio.sleep(STAYS)
        self.assertEqual({(client.socket.connected, client.socket.transport()) for client in clients}, {(True, "websocket")})


@unittest.skipUnless(AMQP, "PAPO_TEST_AMQP names no RabbitMQ")
class TwoServersThatShareRabbitMQ(SingleServer):
    amqp = AMQP
