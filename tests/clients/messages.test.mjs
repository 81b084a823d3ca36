// Tests of messages: echo, acknowledgement, duplicates, order and identity.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { numbered } from "../lib/member.mjs";
import { join, rooms } from "./room.mjs";

/** Secrets of two people: at least 16 characters. */
const [SECRET, OTHER] = ["a secret of one person", "a secret of another one"];

for (const [where, start] of rooms) {
  describe(where, () => {
    test("a bare text reaches everybody, its sender included", async (t) => {
      const { here, there } = await start(t);
      const [ana, bia] = [await join(t, here, { name: "Ana" }), await join(t, there, { name: "Bia" })];
      ana.socket.send("olá");
      for (const client of [ana, bia]) {
        const { id, offset, at, ...rest } = await client.sees("olá");
        assert.deepEqual(rest, { text: "olá", user: "Ana", sender: ana.histories[0].you.sender });
        assert.ok(typeof id === "string" && Number.isInteger(offset) && Math.abs(Date.now() - at) < 60_000);
      }
    });

    test("an acknowledgement has the message's offset and epoch", async (t) => {
      const { here, there } = await start(t);
      const [ana, bia] = [await join(t, here, { name: "Ana" }), await join(t, there, { name: "Bia" })];
      const bare = await ana.ask("message", "um");
      const named = await ana.ask("message", { text: "dois", id: "my-id-2" });
      assert.deepEqual({ ...named, offset: 0 }, { ok: true, id: "my-id-2", offset: 0, epoch: ana.histories[0].epoch });
      assert.equal(bare.ok, true);
      assert.ok(named.offset > bare.offset);
      assert.equal((await bia.sees("um")).offset, bare.offset);
      const { id, offset } = await bia.sees("dois");
      assert.deepEqual([id, offset], ["my-id-2", named.offset]);
    });

    test("a retry with the same id is shown once", async (t) => {
      const { here, there } = await start(t);
      const [ana, bia] = [await join(t, here, { token: SECRET }), await join(t, there, { token: OTHER })];
      const first = await ana.ask("message", { text: "uma vez", id: "x" });
      const again = await ana.ask("message", { text: "uma vez", id: "x" });
      assert.deepEqual(again, first);
      await ana.say("fim");
      for (const client of [ana, bia]) {
        await client.sees("fim");
        assert.deepEqual(client.texts, ["uma vez", "fim"]);
      }
      const others = await bia.ask("message", { text: "minha", id: "x" });
      assert.ok(others.ok && others.offset > first.offset, "two senders can use the same id");
    });

    test("a retry through another connection is shown once", async (t) => {
      const { here, there } = await start(t);
      const [phone, laptop] = [await join(t, here, { token: SECRET }), await join(t, there, { token: SECRET })];
      const first = await phone.ask("message", { text: "uma vez", id: "x" });
      const again = await laptop.ask("message", { text: "uma vez", id: "x" });
      assert.equal(again.offset, first.offset);
      await phone.say("fim");
      await laptop.sees("fim");
      assert.deepEqual(laptop.texts, ["uma vez", "fim"]);
    });

    test("200 messages arrive everywhere once and in order", async (t) => {
      const { here, there } = await start(t);
      const [ana, bia] = [await join(t, here), await join(t, there)];
      const answers = await ana.say(...numbered(200));
      assert.ok(answers.every(({ ok }) => ok));
      for (const client of [ana, bia]) {
        await client.sees("m 200");
        assert.deepEqual(client.texts, numbered(200));
        assert.deepEqual(client.live.map(({ offset }) => offset), answers.map(({ offset }) => offset));
      }
    });

    test("everybody sees concurrent messages in the same order", async (t) => {
      const { here, there } = await start(t);
      const speakers = [await join(t, here, { name: "A" }), await join(t, there, { name: "B" }), await join(t, here, { name: "C" })];
      await Promise.all(speakers.map((speaker, n) => speaker.say(...numbered(60, `${n}`))));
      await Promise.all(speakers.flatMap((reader) => speakers.map((_, n) => reader.sees(`${n} 60`))));
      const [first, ...others] = speakers.map(({ texts }) => texts);
      assert.equal(new Set(first).size, 180);
      for (const other of others) assert.deepEqual(other, first);
      for (const n of speakers.keys()) assert.deepEqual(first.filter((text) => text.startsWith(`${n} `)), numbered(60, `${n}`));
    });

    test("a token gives the same sender on every server", async (t) => {
      const { here, there } = await start(t);
      const you = async (url, auth) => (await join(t, url, auth)).histories[0].you;
      const ana = await you(here, { name: "Ana", token: SECRET });
      assert.equal(ana.user, "Ana");
      assert.equal((await you(there, { name: "Ana na rua", token: SECRET })).sender, ana.sender);
      assert.notEqual((await you(here, { name: "Ana", token: OTHER })).sender, ana.sender);
      assert.notEqual((await you(here, { name: "Ana" })).sender, ana.sender);
      assert.notEqual((await you(here, { name: "Ana", token: ana.sender })).sender, ana.sender, "the public sender does not work as a token");
      const eva = await join(t, here, { name: "Eva" });
      await eva.ask("message", { text: "sou a Ana", sender: ana.sender, user: "Ana" });
      const { sender, user } = await eva.sees("sou a Ana");
      assert.deepEqual([sender, user], [eva.histories[0].you.sender, "Eva"], "the server ignores the sender and user of a request");
    });
  });
}
