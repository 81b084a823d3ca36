// Refusals: every one has a code and a sentence, nothing is met with silence, and the others feel nothing.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";

import { Client, numbered } from "./lib/client.mjs";
import { rooms } from "./lib/room.mjs";

async function refusal(t, url, auth) {
  const client = new Client(t, url, auth, { reconnection: false });
  const [error] = await once(client.socket, "connect_error");
  return error.data;
}

for (const [where, start] of rooms) {
  test(`${where}: what is no message is refused with a code, and nobody sees it`, async (t) => {
    const { here, there } = await start(t, "--max-message-length", "10");
    const [ana, bia] = [await Client.join(t, here), await Client.join(t, there)];
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
    assert.equal((await ana.ask("message", "çãéõüçãéõü")).ok, true, "length counts characters");
    await bia.sees("çãéõüçãéõü");
    assert.equal(bia.live.length, 1);
  });

  test(`${where}: an event that does not exist is refused`, async (t) => {
    const { here } = await start(t);
    const ana = await Client.join(t, here);
    const answer = await ana.ask("shout", "oi");
    assert.deepEqual([answer.ok, answer.code], [false, "unknown_event"]);
    assert.equal((await ana.ask("message", "oi")).ok, true);
  });

  test(`${where}: too fast is refused, per connection, and passes with time`, async (t) => {
    const { here } = await start(t, "--message-burst", "5", "--max-messages-per-second", "5");
    const [ana, bia] = [await Client.join(t, here), await Client.join(t, here)];
    const answers = await ana.say(...numbered(20));
    const refused = answers.filter(({ ok }) => !ok);
    assert.ok(refused.length >= 10, `${refused.length} refused`);
    assert.ok(refused.every(({ code }) => code === "rate_limited"));
    assert.equal((await bia.say("eu não"))[0].ok, true, "one's haste is not another's");
    const end = Date.now() + 10_000;
    while (!(await ana.say("de novo"))[0].ok) assert.ok(Date.now() < end, "it never passes");
    assert.deepEqual(ana.live.filter(({ text }) => text.startsWith("m ")).length, answers.length - refused.length);
  });
}

test("a connection is refused with a code", async (t) => {
  const [, start] = rooms[0];
  const { here } = await start(t, "--max-name-length", "5");
  for (const [auth, code] of [
    [{ name: "" }, "invalid_name"],
    [{ name: "   " }, "invalid_name"],
    [{ name: "Anastácia" }, "invalid_name"],
    [{ name: "A\u202ena" }, "invalid_name"],
    [{ name: 7 }, "bad_request"],
    [{ token: {} }, "bad_request"],
    [{ token: "x".repeat(1_000) }, "bad_request"],
  ]) {
    const data = await refusal(t, here, auth);
    assert.deepEqual([data?.code, typeof data?.message], [code, "string"], JSON.stringify(auth));
  }
});

test("a full server refuses the next, and takes it when there is room", async (t) => {
  const [, start] = rooms[0];
  const { here } = await start(t, "--max-connections", "1");
  const ana = await Client.join(t, here);
  assert.equal((await refusal(t, here, {})).code, "server_full");
  ana.socket.disconnect();
  const bia = new Client(t, here);
  bia.socket.on("connect_error", () => setTimeout(() => bia.socket.connect(), 50));
  await once(bia.socket, "history");
});

test("a frame larger than the limit ends its connection only", async (t) => {
  const [, start] = rooms[0];
  const { here } = await start(t, "--max-frame-size", "20000");
  const [eva, ana] = [await Client.join(t, here, {}, { reconnection: false }), await Client.join(t, here)];
  const closed = once(eva.socket, "disconnect");
  eva.socket.emit("message", "x".repeat(200_000));
  await closed;
  assert.equal((await ana.ask("message", "tudo bem por aqui")).ok, true);
});
