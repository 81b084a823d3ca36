// Tests of transports: WebSocket, and long-polling, which the official client tries first and which needs --long-polling.

import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";

import { Member, numbered } from "../lib/member.mjs";
import { join, rooms } from "./room.mjs";

for (const [where, start] of rooms) {
  describe(where, () => {
    for (const [how, options] of [["clients with long-polling only", { transports: ["polling"] }], ["clients with their defaults", { transports: undefined }]]) {
      test(`${how} work with --long-polling`, async (t) => {
        const { here, there } = await start(t, "--long-polling");
        const [ana, bia] = [await join(t, here, {}, options), await join(t, there)];
        await ana.say(...numbered(20));
        await bia.say("oi");
        for (const client of [ana, bia]) {
          await client.sees("m 20");
          await client.sees("oi");
          assert.deepEqual(client.texts.filter((text) => text !== "oi"), numbered(20));
        }
        assert.deepEqual([(await ana.ask("message", "")).code, (await ana.ask("message", Buffer.from("x"))).code], ["empty_text", "bad_request"]);
        if (options.transports) assert.equal(ana.socket.io.engine.transport.name, "polling");
      });
    }
  });
}

test("long-polling is rejected without --long-polling", async (t) => {
  const [, start] = rooms[0];
  const { here } = await start(t);
  const client = new Member(here, {}, { test: t, transports: ["polling"], reconnection: false });
  await once(client.socket, "connect_error");
  assert.equal(client.socket.connected, false);
});
