// Tests of history: a late joiner, resuming, and scrolling back.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { numbered } from "../lib/member.mjs";
import { Proxy } from "../lib/proxy.mjs";
import { until } from "../lib/wait.mjs";
import { join, rooms } from "./room.mjs";

const texts = (messages) => messages.map(({ text }) => text);

for (const [where, start] of rooms) {
  describe(where, () => {
    test("a late joiner gets the newest page before live messages", async (t) => {
      const { here, there } = await start(t, "--title", "Sala");
      const ana = await join(t, here);
      await ana.say(...numbered(70));
      // The other server reads the log by itself, and may be a moment behind.
      const eva = await join(t, there);
      await eva.sees(numbered(70).at(-1));
      let talking = true;
      const talk = (async () => {
        for (let n = 0; talking; n += 1) await ana.say(`live ${n}`);
      })();
      const bia = await join(t, there, { name: "Bia" });
      await until("live messages arrive", () => bia.live.length > 3);
      talking = false;
      await talk;
      const { epoch, messages, recovered, more, room, limits, you } = bia.histories[0];
      assert.deepEqual([epoch, recovered, more, messages.length], [ana.histories[0].epoch, false, true, 50]);
      assert.deepEqual(Object.keys(messages[0]).sort(), ["at", "id", "offset", "sender", "text", "user"]);
      assert.deepEqual([room.title, limits.messageLength, limits.nameLength, you.user], ["Sala", 4_000, 40, "Bia"]);
      assert.equal(bia.events.filter((event) => ["history", "message"].includes(event))[0], "history");
      const seen = [...texts(messages), ...bia.texts];
      await ana.sees(seen.at(-1));
      const all = [...numbered(70), ...texts(ana.live).slice(70)];
      assert.deepEqual(seen, all.slice(all.indexOf(seen[0])).slice(0, seen.length), "no hole and no overlap between history and live messages");
    });

    test("a resumed member gets exactly the missed messages, in order", async (t) => {
      const { servers, here, there } = await start(t);
      const proxy = await Proxy.to(servers.at(-1).port, { test: t });
      const [ana, bia] = [await join(t, here), await join(t, proxy.url, { token: "the secret of Bia" })];
      await ana.say("antes");
      await bia.sees("antes");
      proxy.cut();
      await until("the cut is noticed", () => !bia.socket.connected);
      await ana.say(...numbered(200, "perdida"));
      proxy.mend();
      await until("a second history", () => bia.histories[1]);
      await ana.say("depois");
      await bia.sees("depois");
      const { recovered, messages } = bia.histories[1];
      assert.equal(recovered, true);
      assert.deepEqual(["antes", ...texts(messages), ...bia.texts.slice(1)], ["antes", ...numbered(200, "perdida"), "depois"]);
      assert.ok(there);
    });

    test("a member resumes at another server at any offset", async (t) => {
      const { here, there } = await start(t);
      const ana = await join(t, here);
      const answers = await ana.say(...numbered(30));
      const { epoch } = ana.histories[0];
      await (await join(t, there)).isAt("m 30");
      for (const seen of [0, 10, 28, 29]) {
        const bia = await join(t, there, { epoch, offset: answers[seen].offset });
        assert.equal(bia.histories[0].recovered, true);
        assert.deepEqual(texts(bia.histories[0].messages), numbered(30).slice(seen + 1));
      }
    });

    test("an unknown position gets the newest page", async (t) => {
      const { here, there } = await start(t);
      const ana = await join(t, here);
      await ana.say(...numbered(3));
      const { epoch } = ana.histories[0];
      await (await join(t, there)).isAt("m 3");
      for (const auth of [{ epoch: "0123456789abcdef", offset: 1 }, { epoch, offset: 1_000_000 }, { epoch, offset: "1000000" }, { epoch, offset: null }, { epoch }]) {
        const bia = await join(t, there, auth);
        const { recovered, messages, more } = bia.histories[0];
        assert.deepEqual([recovered, texts(messages), more], [false, numbered(3), false], JSON.stringify(auth));
      }
    });

    test("scrolling back reaches the beginning of the log", async (t) => {
      const { here, there } = await start(t);
      await (await join(t, here)).say(...numbered(175));
      const bia = await join(t, there);
      // Messages that this server reads from the log after she has joined are live messages for her.
      await bia.isAt("m 175");
      let { messages, more } = { messages: bia.messages, more: bia.histories[0].more };
      const sizes = [];
      while (more) {
        const page = await bia.ask("history", { before: messages[0].offset, limit: 40 });
        assert.deepEqual([page.ok, page.epoch], [true, bia.histories[0].epoch]);
        sizes.push(page.messages.length);
        messages = [...page.messages, ...messages];
        more = page.more;
      }
      assert.deepEqual(texts(messages), numbered(175));
      assert.ok(Math.max(...sizes) <= 40);
      const nothing = await bia.ask("history", { before: messages[0].offset, limit: 40 });
      assert.deepEqual([nothing.ok, nothing.messages, nothing.more], [true, [], false]);
    });

    test("a malformed history request is rejected", async (t) => {
      const { here } = await start(t);
      const ana = await join(t, here);
      for (const argument of [7, "x", ["x"], { before: "one" }, { before: -1, limit: 1 }, { before: 1, limit: "x" }]) {
        const answer = await ana.ask("history", argument);
        assert.deepEqual([answer.ok, answer.code], [false, "bad_request"], JSON.stringify(argument));
      }
      assert.ok((await ana.say("ainda aqui"))[0].ok);
    });
  });
}
