"""A program of programs.test.mjs: python-socketio.

python.py URL NAME TOKEN [TRANSPORT]
"""

import asyncio
import json
import sys

import socketio

ARGUMENTS = sys.argv[1:]


def report(*values) -> None:
    print(json.dumps(values), flush=True)


async def main(url: str, name: str, token: str, transport: str | None = None) -> None:
    client = socketio.AsyncClient()
    auth = {"name": name, "token": token}

    async def on_history(history) -> None:
        auth["epoch"] = history["epoch"]
        auth.update({"offset": message["offset"] for message in history["messages"]})
        report("history", history)

    async def on_message(text, about) -> None:
        auth["offset"] = about["offset"]
        report("message", text, about)

    client.on("connect", lambda: report("connect"))
    client.on("disconnect", lambda reason: report("disconnect", reason))
    client.on("connect_error", lambda error: report("connect_error", error))
    client.on("history", on_history)
    client.on("message", on_message)
    await client.connect(url, auth=lambda: auth, transports=transport and [transport])
    while line := await asyncio.to_thread(sys.stdin.readline):
        text = line.rstrip("\n")
        await client.emit("message", text, callback=lambda answer, text=text: report("acknowledged", text, answer))
    await client.disconnect()


asyncio.run(main(*ARGUMENTS))
