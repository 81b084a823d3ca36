// The 24 cases of the Engine.IO 4 protocol's test suite, and one of ours, on the echo example of crates/engineio.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { SEPARATOR, close, handshake, pings, timeouts, upgrade } from "./engine-cases.mjs";
import { Engine, opened } from "./engine.mjs";
import { startEcho } from "./echo.mjs";

/** The values of the official suite, for which no client is too slow that does not answer anyway. */
const OFFICIAL = { pingInterval: 300, pingTimeout: 200, maxPayload: 1_000_000 };
/** Time enough to answer on a machine that is busy. */
const PATIENT = { pingInterval: 2_000, pingTimeout: 2_000 };
const ROUNDS = 3;

const flags = ({ pingInterval, pingTimeout, maxPayload = OFFICIAL.maxPayload }) =>
  ["--ping-interval", pingInterval, "--ping-timeout", pingTimeout, "--max-payload", maxPayload].map(String);

describe("Engine.IO, echo example", { concurrency: true }, () => {
  const engines = {};
  const stops = [];
  before(async () => {
    const start = async (name, ...args) => {
      const { url, stop } = await startEcho(...args);
      stops.push(stop);
      engines[name] = new Engine(`${url}/engine.io/`);
    };
    await Promise.all([start("official", ...flags(OFFICIAL)), start("patient", ...flags(PATIENT)), start("calm")]);
  });
  after(() => Promise.all(stops.map((stop) => stop())));
  const calm = () => engines.calm;

  handshake(() => engines.official, OFFICIAL);
  pings(() => engines.patient, ROUNDS);
  timeouts(() => engines.official, OFFICIAL);
  close(calm);
  upgrade(calm, async (socket) => {
    socket.send("4olá");
    assert.equal(await socket.find((packet) => packet !== "6"), "4olá");
  });

  describe("message", { concurrency: true }, () => {
    for (const [what, ...packets] of [
      ["one text", "4olá"],
      ["several texts in one body", "4um", "4dois", "4três"],
      ["text and binary in one body", "4olá", "bAQIDBA=="],
    ]) {
      test(`long-polling: ${what} comes back`, async () => {
        const { sid } = await calm().open();
        const body = packets.join(SEPARATOR);
        assert.deepEqual(await calm().post(sid, body), { status: 200, text: "ok" });
        assert.deepEqual(await calm().poll(sid), { status: 200, text: body });
      });
    }
    test("long-polling: what is no packet ends the session", async () => {
      const { sid } = await calm().open();
      assert.equal((await calm().post(sid, "abc")).status, 400);
      assert.equal((await calm().poll(sid)).status, 400);
    });
    test("long-polling: a second GET ends both and the session", async () => {
      const { sid } = await calm().open();
      const polled = await Promise.all([calm().poll(sid), calm().poll(sid)]);
      const [first, second] = polled.toSorted((one, other) => one.status - other.status);
      assert.deepEqual(first, { status: 200, text: "1" });
      assert.equal(second.status, 400);
      assert.equal((await calm().poll(sid)).status, 400);
    });
    test("long-polling: a body above maxPayload is not read", async () => {
      const { sid } = await calm().open();
      assert.ok((await calm().post(sid, "4".repeat(OFFICIAL.maxPayload + 1))).status >= 400);
    });

    const socket = async () => {
      const socket = await calm().socket();
      opened(await socket.next());
      return socket;
    };
    test("WebSocket: a text comes back", async () => {
      const client = await socket();
      client.send("4olá");
      assert.equal(await client.next(), "4olá");
      client.close();
    });
    test("WebSocket: a binary message comes back", async () => {
      const client = await socket();
      client.send(Buffer.from([1, 2, 3, 4]));
      assert.deepEqual(await client.next(), Buffer.from([1, 2, 3, 4]));
      client.close();
    });
    test("WebSocket: what is no packet closes the connection", async () => {
      const client = await socket();
      client.send("abc");
      assert.equal(await client.closed, 1002);
    });
  });
});
