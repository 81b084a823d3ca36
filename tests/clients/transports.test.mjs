// Tests of transports: WebSocket, and long-polling, with which the official client begins by default.

import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";

import { Member, numbered } from "../lib/member.mjs";
import { lasting, until } from "../lib/wait.mjs";
import { join, rooms, startShared } from "./room.mjs";

/** The transport that a member uses now. */
const transport = (member) => member.socket.io.engine.transport.name;
/** Seconds in which a member that cannot stay would have left. */
const STAYS = 3;

for (const [where, start] of rooms) {
  describe(where, () => {
    for (const [how, options, last] of [
      ["clients with long-polling only", { transports: ["polling"] }, "polling"],
      ["clients with their defaults", { transports: undefined }, "websocket"],
    ]) {
      test(`${how} join, talk and stay`, async (t) => {
        const { there, balanced } = await start(t);
        const [ana, bia] = [await join(t, balanced, {}, options), await join(t, there)];
        await until(`Ana uses ${last}`, () => transport(ana) === last);
        await ana.say(...numbered(20));
        await bia.say("oi");
        for (const client of [ana, bia]) {
          await client.sees("m 20");
          await client.sees("oi");
          assert.deepEqual(client.texts.filter((text) => text !== "oi"), numbered(20));
        }
        assert.deepEqual([(await ana.ask("message", "")).code, (await ana.ask("message", Buffer.from("x"))).code], ["empty_text", "bad_request"]);
        await lasting(STAYS);
        assert.deepEqual([ana.closes, ana.connections, transport(ana)], [[], 1, last]);
      });
    }
  });
}

test("default clients upgrade and stay behind a balancer without sticky sessions", async (t) => {
  const { servers, balanced } = await startShared(t, "--message-burst", "100000");
  const members = await Promise.all(numbered(12).map((name) => join(t, balanced, name, { transports: undefined })));
  for (const member of members) {
    await until(`${member.name} uses WebSocket`, () => transport(member) === "websocket");
    await member.say(member.name);
    await member.sees(member.name);
  }
  await lasting(STAYS);
  for (const member of members) assert.deepEqual([member.closes, member.connections], [[], 1], member.name);
  const sum = async (metric) => (await Promise.all(servers.map((server) => server.metric(metric)))).reduce((one, other) => one + other);
  assert.equal(await sum("papo_connections "), members.length);
  assert.ok((await sum("papo_requests_forwarded_total{outcome=\"answered\"}")) > 0, "no request was forwarded");
  assert.equal(await sum("papo_requests_forwarded_total{outcome=\"unreachable\"}"), 0);
});

test("long-polling is rejected with --long-polling=false", async (t) => {
  const [, start] = rooms[0];
  const { here } = await start(t, "--long-polling=false");
  const client = new Member(here, {}, { test: t, transports: ["polling"], reconnection: false });
  await once(client.socket, "connect_error");
  assert.equal(client.socket.connected, false);
});
