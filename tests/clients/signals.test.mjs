// Tests of presence, typing and draining.

import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";

import { until } from "../lib/wait.mjs";
import { join, rooms } from "./room.mjs";

for (const [where, start] of rooms) {
  describe(where, () => {
    test("presence names members that join or leave, and counts", async (t) => {
      const { here, there } = await start(t);
      const ana = await join(t, here, { name: "Ana" });
      const bia = await join(t, there, { name: "Bia" });
      for (const client of [ana, bia]) await until("both are counted", () => client.presences.at(-1)?.count === 2);
      assert.ok(ana.presences.some(({ joined }) => joined?.includes("Bia")));
      assert.ok(Array.isArray(bia.presences[0].members), "the first presence event lists the members");
      assert.ok(bia.presences.slice(1).every(({ members }) => members === undefined));
      const rui = await join(t, there, { name: "Rui" });
      await until("Rui learns of all", () => ["Ana", "Bia"].every((name) => rui.presences[0]?.members.includes(name)));
      bia.socket.disconnect();
      await until("Ana learns that Bia left", () => ana.presences.some(({ left }) => left?.includes("Bia")));
      await until("two are left", () => ana.presences.at(-1).count === 2);
    });

    test("typing reaches the other members", async (t) => {
      const { here, there } = await start(t);
      const [ana, bia] = [await join(t, here, { name: "Ana" }), await join(t, there, { name: "Bia" })];
      // Signals can be lost, and a server may not have received the presence of the other yet, so Ana sends typing repeatedly.
      await until("Bia sees Ana typing", () => {
        if (ana.socket.connected) ana.socket.emit("typing");
        return bia.typing[0];
      });
      assert.deepEqual(bia.typing[0], { user: "Ana", sender: ana.histories[0].you.sender });
      await ana.say("pronto");
      assert.deepEqual(ana.typing, []);
    });

    test("each check is answered", async (t) => {
      const { here } = await start(t);
      const ana = await join(t, here);
      const answers = await Promise.all(Array.from({ length: 20 }, () => ana.ask("check")));
      assert.deepEqual(new Set(answers.map(({ ok }) => ok)), new Set([true]));
      ana.socket.emit("check");
      assert.equal((await ana.ask("message", "oi")).ok, true, "a check without an acknowledgement is no error");
    });

    test("members of a draining server resume at another", async (t) => {
      const { servers, here, there } = await start(t, "--drain-period", "1");
      const ana = await join(t, here, {}, { reconnection: false });
      const draining = once(ana.socket, "draining");
      const closed = once(ana.socket, "disconnect");
      await ana.say("antes");
      await ana.sees("antes");
      servers[0].terminate();
      const [{ after }] = await draining;
      assert.ok(Number.isInteger(after) && after >= 0 && after <= 1_000, `after ${after}`);
      const [reason] = await closed;
      assert.notEqual(reason, "io server disconnect", "after this reason the official client does not reconnect by itself");
      if (servers.length > 1) {
        const again = await join(t, there, ana.place);
        assert.equal(again.histories[0].recovered, true);
      }
    });
  });
}
