// Tests of rejections: each has a code and a message, every request gets an answer, and other members are not affected.

import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";

import { Member, numbered } from "../lib/member.mjs";
import { until } from "../lib/wait.mjs";
import { join, rooms } from "./room.mjs";

async function rejection(t, url, auth) {
  const client = new Member(url, auth, { test: t, reconnection: false });
  const [error] = await once(client.socket, "connect_error");
  return error.data;
}

for (const [where, start] of rooms) {
  describe(where, () => {
    test("an invalid message is rejected with a code", async (t) => {
      const { here, there } = await start(t, "--max-message-length", "10");
      const [ana, bia] = [await join(t, here), await join(t, there)];
      for (const [argument, code] of [
        ["", "empty_text"],
        [" \n\t ", "empty_text"],
        [{ text: "" }, "empty_text"],
        ["12345678901", "text_too_long"],
        [{ text: "x".repeat(5_000) }, "text_too_long"],
        [{ text: "oi", id: "" }, "invalid_id"],
        [{ text: "oi", id: "x".repeat(65) }, "invalid_id"],
        [{ text: "oi", id: 7 }, "invalid_id"],
        [{ text: "oi", id: "com espaço" }, "invalid_id"],
        [7, "bad_request"],
        [null, "bad_request"],
        [true, "bad_request"],
        [["oi"], "bad_request"],
        [{}, "bad_request"],
        [{ text: 7 }, "bad_request"],
        [{ text: null }, "bad_request"],
        [{ text: { text: "oi" } }, "bad_request"],
        [Buffer.from("oi"), "bad_request"],
        [{ text: Buffer.from("oi") }, "bad_request"],
      ]) {
        const answer = await ana.ask("message", argument);
        assert.deepEqual([answer.ok, answer.code, typeof answer.message], [false, code, "string"], JSON.stringify(argument));
      }
      const nothing = await ana.ask("message");
      assert.deepEqual([nothing.ok, nothing.code], [false, "bad_request"]);
      assert.equal((await ana.ask("message", "çãéõüçãéõü")).ok, true, "the limit counts characters, not bytes");
      await bia.sees("çãéõüçãéõü");
      assert.equal(bia.live.length, 1);
    });

    test("half of an emoji is replaced", async (t) => {
      const { here, there } = await start(t);
      const [ana, bia] = [await join(t, here), await join(t, there)];
      const half = "😀".slice(0, -1);
      assert.equal((await ana.ask("message", `ok ${half}`)).ok, true);
      await bia.sees("ok \ufffd");
      assert.equal((await ana.ask("message", { text: "x", id: half })).code, "invalid_id");
      assert.equal((await ana.ask("message", { text: "x", other: [half] })).ok, true);
      assert.equal((await ana.ask(half)).code, "unknown_event");
    });

    test("an unknown event is rejected", async (t) => {
      const { here } = await start(t);
      const ana = await join(t, here);
      const answer = await ana.ask("shout", "oi");
      assert.deepEqual([answer.ok, answer.code], [false, "unknown_event"]);
      assert.equal((await ana.ask("message", "oi")).ok, true);
    });

    test("messages above the rate limit are rejected", async (t) => {
      const { here } = await start(t, "--message-burst", "5", "--max-messages-per-second", "1");
      const [ana, bia] = [await join(t, here), await join(t, here)];
      const answers = await ana.say(...numbered(20));
      const rejected = answers.filter(({ ok }) => !ok);
      assert.deepEqual([...new Set(rejected.map(({ code }) => code))], ["rate_limited"]);
      assert.equal((await bia.say("eu não"))[0].ok, true, "each member has its own limit");
      await until("Ana may send again", async () => (await ana.say("de novo"))[0].ok);
      await ana.sees("de novo");
      assert.equal(ana.live.filter(({ text }) => text.startsWith("m ")).length, answers.length - rejected.length);
    });
  });
}

test("an invalid name or token is rejected with a code", async (t) => {
  const [, start] = rooms[0];
  const { here } = await start(t, "--max-name-length", "5");
  for (const [auth, code] of [
    [{ name: "" }, "invalid_name"],
    [{ name: "   " }, "invalid_name"],
    [{ name: "Anastácia" }, "invalid_name"],
    [{ name: "A\u202ena" }, "invalid_name"],
    [{ name: "A\u2800na" }, "invalid_name"],
    [{ name: 7 }, "bad_request"],
    [{ token: {} }, "bad_request"],
    [{ epoch: "e1", offset: -1 }, "bad_request"],
    [{ epoch: "e1", offset: "one" }, "bad_request"],
    [{ token: "x".repeat(1_000) }, "invalid_token"],
    [{ token: "fifteen letters" }, "invalid_token"],
  ]) {
    const data = await rejection(t, here, auth);
    assert.deepEqual([data?.code, typeof data?.message], [code, "string"], JSON.stringify(auth));
  }
});

test("a full server rejects members until there is room", async (t) => {
  const [, start] = rooms[0];
  const { here } = await start(t, "--max-connections", "1");
  const ana = await join(t, here);
  assert.equal((await rejection(t, here, {})).code, "server_full");
  ana.socket.disconnect();
  const bia = new Member(here, {}, { test: t });
  await until("Bia is in the room", () => bia.epoch);
});

test("a frame above the limit closes only its connection", async (t) => {
  const [, start] = rooms[0];
  const { here } = await start(t, "--max-frame-size", "20000");
  const [eva, ana] = [await join(t, here, {}, { reconnection: false }), await join(t, here)];
  const closed = once(eva.socket, "disconnect");
  eva.socket.emit("message", "x".repeat(200_000));
  await closed;
  assert.equal((await ana.ask("message", "tudo bem por aqui")).ok, true);
});
