// The cases of the Engine.IO 4 protocol that do not depend on what messages say: handshake, heartbeat, close, upgrade.
//
// They follow the test suite of the protocol (socketio/engine.io-protocol), whose names for groups they keep. Where that suite depends
// on the speed of the machine, they wait for conditions instead.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { lasting, until } from "../lib/wait.mjs";
import { opened } from "./engine.mjs";

/** Cases of one group run side by side: most of their time is the server's clock. */
const TOGETHER = { concurrency: true };
export const SEPARATOR = "\x1e";

const isPing = (packet) => packet === "2";

/** `get` returns the Engine; `settings` are what it must say in a handshake: pingInterval, pingTimeout, maxPayload. */
export function handshake(get, settings) {
  const isOpen = ({ sid, upgrades, ...rest }, expected) => {
    assert.equal(typeof sid, "string");
    assert.deepEqual(upgrades, expected);
    assert.deepEqual(rest, settings);
  };
  const badVersions = (transport) => [`transport=${transport}`, `EIO=abc&transport=${transport}`];
  const badTransports = ["EIO=4", "EIO=4&transport=abc"];

  describe("handshake", TOGETHER, () => {
    test("long-polling: a session opens", async () => isOpen(await get().open(), ["websocket"]));
    test("long-polling: a wrong EIO gets 400", async () => {
      for (const query of badVersions("polling")) assert.equal((await get().request(query)).status, 400, query);
    });
    test("long-polling: a wrong transport gets 400", async () => {
      for (const query of badTransports) assert.equal((await get().request(query)).status, 400, query);
    });
    test("long-polling: a wrong method gets 400", async () => {
      for (const method of ["POST", "PUT"]) assert.equal((await get().request("EIO=4&transport=polling", { method })).status, 400, method);
    });
    test("WebSocket: a session opens", async () => {
      const socket = await get().socket();
      isOpen(opened(await socket.next()), []);
      socket.close();
    });
    test("WebSocket: a wrong EIO gets 400", async () => {
      for (const query of badVersions("websocket")) assert.equal(await get().rejects(query), 400, query);
    });
    test("WebSocket: a wrong transport gets 400", async () => {
      for (const query of badTransports) assert.equal(await get().rejects(query), 400, query);
    });
  });
}

/** Packets of a long-polling session, for as long as it answers. */
async function* polled(engine, sid) {
  for (;;) {
    const { status, text } = await engine.poll(sid);
    if (status !== 200) return;
    yield* text.split(SEPARATOR);
  }
}

/** What a server needs of a client before it may stay: on a WebSocket, and over long-polling. */
const NOTHING = { socket: async () => {}, polling: async () => {} };

/** Clients that answer `rounds` pings stay. */
export function pings(get, rounds, join = NOTHING) {
  describe("heartbeat: a client that answers", TOGETHER, () => {
    test("long-polling: pings come, and their answers are taken", async () => {
      const { sid } = await get().open();
      await join.polling(sid);
      let round = 0;
      for await (const packet of polled(get(), sid)) {
        if (packet !== "2") continue;
        assert.equal((await get().post(sid, "3")).status, 200);
        if (++round === rounds) break;
      }
      assert.equal(round, rounds);
    });
    test("WebSocket: pings come, and their answers are taken", async () => {
      const socket = await get().socket();
      opened(await socket.next());
      await join.socket(socket);
      for (let round = 0; round < rounds; round++) {
        assert.equal(await socket.find(isPing), "2");
        socket.send("3");
      }
      socket.close();
    });
  });
}

/** Clients that do not answer are closed. */
export function timeouts(get, { pingInterval, pingTimeout }, join = NOTHING) {
  describe("heartbeat: a client that is silent", TOGETHER, () => {
    test("long-polling: the session ends", async () => {
      const { sid } = await get().open();
      await join.polling(sid);
      await lasting((pingInterval + pingTimeout) / 1000);
      await until("the session has ended", async () => (await get().poll(sid)).status === 400);
    });
    test("WebSocket: the connection is closed", async () => {
      const socket = await get().socket();
      opened(await socket.next());
      await join.socket(socket);
      assert.equal(await socket.find(isPing), "2");
      assert.equal(await socket.closed, 1001);
    });
  });
}

export function close(get) {
  describe("close", TOGETHER, () => {
    test("long-polling: the waiting GET gets a noop, and the session ends", async () => {
      const { sid } = await get().open();
      const [polled] = await Promise.all([get().poll(sid), get().post(sid, "1")]);
      // The POST may be served before the GET: then there is no GET to end.
      if (polled.status !== 400) assert.deepEqual(polled, { status: 200, text: "6" });
      assert.equal((await get().poll(sid)).status, 400);
    });
    test("WebSocket: the connection is closed", async () => {
      const socket = await get().socket();
      opened(await socket.next());
      socket.send("1");
      await socket.closed;
    });
  });
}

/** `talk(socket)` fails unless the session of a WebSocket works. */
export function upgrade(get, talk) {
  /** A session that has upgraded, and its WebSocket. */
  const upgraded = async () => {
    const { sid } = await get().open();
    const socket = await get().socket(sid);
    socket.send("2probe");
    assert.equal(await socket.next(), "3probe");
    assert.deepEqual(await get().poll(sid), { status: 200, text: "6" });
    socket.send("5");
    await talk(socket);
    return { sid, socket };
  };

  describe("upgrade", TOGETHER, () => {
    test("a session moves from long-polling to WebSocket", async () => {
      const { socket } = await upgraded();
      socket.close();
    });
    test("a request of long-polling after it gets 400", async () => {
      const { sid, socket } = await upgraded();
      assert.equal((await get().poll(sid)).status, 400);
      await talk(socket);
      socket.close();
    });
    test("another WebSocket after it is closed at once", async () => {
      const { sid, socket } = await upgraded();
      const other = get().connect(sid);
      other.socket.once("open", () => other.send("2probe"));
      await other.closed;
      assert.equal(await other.next(), null);
      await talk(socket);
      socket.close();
    });
  });
}
