// The 32 cases of the Socket.IO 5 protocol's test suite on papo-server: 26 that concern one namespace and text, and what a client gets
// in the others. docs/conformance.md lists them.
//
// The events of that suite's server (`auth`, `message-back`) are those of a room here (`history`, `message`).

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { PapoServer } from "../lib/server.mjs";
import { close, handshake, pings, timeouts, upgrade } from "./engine-cases.mjs";
import { Engine, opened } from "./engine.mjs";

/** The server's settings: Engine.IO's own, and --max-frame-size. */
const SETTINGS = { pingInterval: 25_000, pingTimeout: 20_000 };
/** That the second ping comes shows that the answer to the first was taken. */
const ROUNDS = 2;
const BINARY = [Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])];
const PLACEHOLDERS = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}';

const event = (name) => (packet) => packet.startsWith(`42["${name}"`);
const invalid = (namespace) => `44${namespace},{"message":"Invalid namespace"}`;

describe("Socket.IO, papo-server", { concurrency: true }, () => {
  const server = new PapoServer();
  let engine;
  before(async () => {
    await server.start("--max-frame-size", "100000");
    engine = new Engine(`${server.url}/socket.io/`);
  });
  after(() => server.kill());
  const get = () => engine;

  /** A WebSocket with a session, which has sent no CONNECT packet. */
  const open = async () => {
    const socket = await engine.socket();
    opened(await socket.next());
    return socket;
  };
  /** What the server says of the member after a CONNECT packet. */
  const joined = async (socket) => {
    const [answer, history] = [await socket.next(), await socket.next()];
    assert.equal(answer.slice(0, 2), "40");
    const handshake = JSON.parse(answer.slice(2));
    assert.deepEqual([Object.keys(handshake), typeof handshake.sid], [["sid"], "string"]);
    const [name, said] = JSON.parse(history.slice(2));
    assert.equal(name, "history");
    return said;
  };
  const member = async (auth = "") => {
    const socket = await open();
    socket.send(`40${auth}`);
    await joined(socket);
    return socket;
  };
  /** Whether a member's connection works. */
  const works = async (socket, text) => {
    socket.send(`42["message","${text}"]`);
    const packet = await socket.find((packet) => event("message")(packet) && packet.includes(text));
    assert.ok(packet, "the connection has ended");
  };

  /** The server closes who does not join, before the first ping. */
  const join = {
    async socket(socket) {
      socket.send("40");
      assert.ok(await socket.find((packet) => packet.startsWith("40{")), "the connection has ended");
    },
    polling: async (sid) => assert.equal((await engine.post(sid, "40")).status, 200),
  };
  const joinedSockets = new WeakSet();

  handshake(get, { ...SETTINGS, maxPayload: 100_000 });
  pings(get, ROUNDS, join);
  timeouts(get, SETTINGS, join);
  close(get);
  upgrade(get, async (socket) => {
    if (!joinedSockets.has(socket)) await join.socket(socket);
    joinedSockets.add(socket);
    socket.send('427["check"]');
    assert.ok(await socket.find((packet) => packet.startsWith("437[")), "the connection has ended");
  });

  describe("connect", { concurrency: true }, () => {
    test("to the main namespace", async () => {
      const socket = await open();
      socket.send("40");
      await joined(socket);
      socket.close();
    });
    test("to the main namespace with a payload", async () => {
      const socket = await open();
      socket.send('40{"name":"Ana"}');
      assert.equal((await joined(socket)).you.user, "Ana");
      socket.close();
    });
    test("to an unknown namespace is rejected in its name", async () => {
      const socket = await open();
      socket.send("40/random");
      assert.equal(await socket.next(), invalid("/random"));
      socket.send("40");
      await joined(socket);
      socket.close();
    });
    test("that is no packet closes the connection", async () => {
      const socket = await open();
      socket.send("4abc");
      assert.equal(await socket.closed, 1002);
    });
    test("that does not come in time closes the connection", async () => {
      const socket = await open();
      assert.equal(await socket.closed, 1001);
    });
  });

  describe("message", { concurrency: true }, () => {
    test("a text event comes back to its sender", async () => {
      const socket = await member('{"name":"Rui"}');
      socket.send('42["message",{"text":"olá","ignored":[true]}]');
      // The other cases talk in the same room.
      const packet = await socket.find((packet) => event("message")(packet) && packet.includes("olá"));
      const [, text, about] = JSON.parse(packet.slice(2));
      assert.deepEqual([text, about.user], ["olá", "Rui"]);
      socket.close();
    });
    test("a text event with an acknowledgement is acknowledged", async () => {
      const socket = await member();
      socket.send('42456["message",{"text":"oi","id":"um"}]');
      const [answer] = JSON.parse((await socket.find((packet) => packet.startsWith("43"))).replace(/^43456/, ""));
      assert.deepEqual([answer.ok, answer.id], [true, "um"]);
      socket.close();
    });
    for (const [what, packet] of [
      ["an unknown packet type", "4abc"],
      ["a payload that is no list", "42{}"],
      ["an acknowledgement that is no number", '42abc["message","oi"]'],
    ]) {
      test(`${what} closes the connection`, async () => {
        const socket = await member();
        socket.send(packet);
        assert.equal(await socket.closed, 1002);
      });
    }
  });

  describe("unsupported", { concurrency: true }, () => {
    for (const [what, packet] of [
      ["another namespace", "40/custom,"],
      ["another namespace with a payload", '40/custom,{"token":"abc"}'],
    ]) {
      test(`a CONNECT packet to ${what} is rejected in its name`, async () => {
        const socket = await open();
        socket.send(packet);
        assert.equal(await socket.next(), invalid("/custom"));
        socket.close();
      });
    }
    test("a DISCONNECT packet of another namespace is ignored", async () => {
      const socket = await member();
      socket.send("40/custom", "41/custom");
      assert.equal(await socket.find((packet) => packet.startsWith("44")), invalid("/custom"));
      await works(socket, "ainda aqui");
      socket.close();
    });
    test("a DISCONNECT packet of the main namespace closes the connection", async () => {
      const socket = await member();
      socket.send("41");
      assert.equal(await socket.closed, 1000);
    });
    test("a binary event has no effect", async () => {
      const socket = await member();
      socket.send(`452-["message",${PLACEHOLDERS}]`, ...BINARY);
      await works(socket, "depois dos bytes");
      socket.close();
    });
    test("a binary event with an acknowledgement is rejected", async () => {
      const socket = await member();
      socket.send(`452-789["message",${PLACEHOLDERS}]`, ...BINARY);
      const [answer] = JSON.parse((await socket.find((packet) => packet.startsWith("43"))).replace(/^43789/, ""));
      assert.deepEqual([answer.ok, answer.code], [false, "bad_request"]);
      await works(socket, "mais bytes");
      socket.close();
    });
  });
});
