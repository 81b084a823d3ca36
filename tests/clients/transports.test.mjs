// Transports: WebSocket by default; long-polling, with which the official client begins, by a flag.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";

import { Client, numbered } from "./lib/client.mjs";
import { rooms } from "./lib/room.mjs";

for (const [where, start] of rooms) {
  for (const [how, options] of [["long-polling only", { transports: ["polling"] }], ["the client's defaults", { transports: undefined }]]) {
    test(`${where}: ${how} works with --long-polling`, async (t) => {
      const { here, there } = await start(t, "--long-polling");
      const [ana, bia] = [await Client.join(t, here, {}, options), await Client.join(t, there)];
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
}

test("without the flag, long-polling is refused", async (t) => {
  const [, start] = rooms[0];
  const { here } = await start(t);
  const client = new Client(t, here, {}, { transports: ["polling"], reconnection: false });
  await once(client.socket, "connect_error");
  assert.equal(client.socket.connected, false);
});
