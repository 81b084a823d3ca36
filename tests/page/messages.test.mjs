// Tests of messages that hold anything: other programs can write to a room's log. The page checks them, and goes on.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { PapoServer } from "../lib/server.mjs";

const load = (name) => import(`../../web/static/js/${name}.js`);
const { messageFrom, messagesFrom } = await load("message");
const { Presence } = await load("presence");
const { rows } = await load("rows");
const { length, segments } = await load("text");
const { Timeline } = await load("timeline");

const AT = Date.UTC(2026, 10, 26, 12);
const WILD = [undefined, null, true, 5, -1, 0.5, 1e300, "", "ontem", "\ud83d", [], [[]], {}, { toString: 5 }];
const good = { text: "t", id: "i", offset: 1, user: "U", sender: "s", verified: false, at: AT };

test("any message has the types that the page relies on", () => {
  for (const key of ["text", "id", "user", "sender", "verified", "at"]) {
    for (const value of WILD) {
      const { at, offset, verified, ...texts } = messageFrom({ ...good, [key]: value });
      for (const text of Object.values(texts)) assert.equal(typeof text, "string", `${key}: ${JSON.stringify(value)}`);
      assert.equal(offset, 1);
      assert.equal(verified, key === "verified" && value === true, "only what the server says is verified");
      if (at !== null) assert.match(new Date(at).toISOString(), /^\d{4}-/);
    }
  }
  for (const value of [...WILD, { ...good, offset: "1" }, { ...good, offset: -1 }, { ...good, offset: 0.5 }]) assert.equal(messageFrom(value), null);
  assert.deepEqual(messagesFrom([good, null, 5]), [good]);
  for (const value of WILD) assert.deepEqual(messagesFrom(value), []);
});

test("a time outside the years 1970 to 9999 is no time", () => {
  const times = [0, AT, 253_402_300_799_999];
  const others = [AT * 1e6, -1, 253_402_300_800_000, Number.MAX_VALUE, NaN, Infinity];
  assert.deepEqual(times.map((at) => messageFrom({ ...good, at }).at), times);
  assert.deepEqual(others.map((at) => messageFrom({ ...good, at }).at), others.map(() => null));
});

test("messages without a time have no heading of a day", () => {
  const timeline = new Timeline();
  const messages = [null, AT, null, AT + 1000].map((at, offset) => ({ ...good, id: `m${offset}`, offset, at }));
  timeline.begin({ epoch: "e", messages, recovered: false, more: false });
  const kinds = rows({ timeline, outbox: [], me: { user: "Eu", sender: "me" }, marker: null, loading: false }).map(({ kind }) => kind);
  assert.deepEqual(kinds, ["edge", "message", "day", "message", "message", "message"]);
});

test("presence ignores what is no name", () => {
  const presence = new Presence();
  for (const value of WILD) presence.take({ count: value, joined: value, left: value, members: value });
  presence.take({ count: 2, members: ["Ana", null, 5], joined: [{}, "Bia"] });
  assert.deepEqual([[...presence.names], presence.count], [["Ana", "Bia"], 2]);
});

test("long addresses are parsed in linear time", () => {
  const hostile = [`https://a${")".repeat(30_000)}`, `https://a${"(".repeat(15_000)}${")".repeat(15_000)}`, `https://a${".)".repeat(15_000)}`, "https://".repeat(4_000)];
  for (const text of hostile) {
    const begun = performance.now();
    const parts = segments(text);
    assert.equal(parts.map((part) => part.text).join(""), text);
    const took = performance.now() - begun;
    assert.ok(took < 1_000, `${text.slice(0, 20)}: ${took} ms`);
  }
  assert.deepEqual(["", "a", "😀", "\ud83d", "\ude00\ud83d", "\ud83d\ud83d\ude00", "a😀b"].map(length), [0, 1, 1, 1, 2, 2, 3]);
});

/** Messages as a server would send them, each with something that a message should not hold. */
function wildMessages() {
  const wild = [];
  for (const key of ["text", "id", "user", "sender", "verified", "at"]) for (const value of [null, 5, "\ud83d", {}, AT * 1e6]) wild.push({ ...good, [key]: value });
  return wild.map((message, n) => ({ ...message, offset: n, id: message.id === "i" ? `wild${n}` : message.id }));
}

/** A window whose server's packets pass through `change(packet)`; also the function with which the test sends packets to it. */
async function between(t, server, change = (packet) => packet) {
  const links = [];
  const prepare = (page) =>
    page.routeWebSocket(/socket\.io/, (link) => {
      links.push(link);
      const real = link.connectToServer();
      real.onMessage((packet) => link.send(change(packet)));
    });
  const window = await ChatWindow.open(t, server.url, { name: "Ana", prepare });
  return { window, send: (...event) => links.at(-1).send(`42${JSON.stringify(event)}`) };
}

test("live messages that hold anything do not stop the page", async (t) => {
  const server = await PapoServer.start(t);
  const later = (packet) => packet.replace(/"offset":(\d+)/g, (_, offset) => `"offset":${1_000 + Number(offset)}`);
  const { window: ana, send } = await between(t, server, later);
  send("message");
  for (const value of WILD) send("message", value, value);
  for (const { text, ...about } of wildMessages()) send("message", text, about);
  for (const value of WILD.slice(1)) send("presence", { count: value, joined: [value], left: value, members: [value] });
  for (const value of WILD.slice(1)) send("typing", { user: value, sender: value });
  send("presence");
  send("typing");
  await ana.say("a página continua");
  await ana.sees("a página continua", "sent");
  assert.equal((await ana.texts()).length, wildMessages().length + 1);
  assert.deepEqual(ana.errors, []);
});

test("a history that holds anything is shown", async (t) => {
  const server = await PapoServer.start(t);
  const page = (packet) => {
    if (!packet.startsWith('42["history"')) return packet;
    const [event, history] = JSON.parse(packet.slice(2));
    return `42${JSON.stringify([event, { ...history, messages: [...WILD, ...wildMessages()] }])}`;
  };
  const { window: ana } = await between(t, server, page);
  await ana.until((count) => document.querySelectorAll("#messages .text").length === count, wildMessages().length);
  assert.equal(await ana.page.getAttribute("#connection", "data-state"), "connected");
  assert.deepEqual(ana.errors, []);
});

test("a message that cannot be drawn hides no others", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, {
    name: "Ana",
    // An error of the page itself, in one message.
    prepare: (page) =>
      page.addInitScript(() => {
        const { matchAll } = String.prototype;
        String.prototype.matchAll = function (pattern) {
          if (String(this) === "defeito") throw new Error("a defect");
          return matchAll.call(this, pattern);
        };
      }),
  });
  for (const text of ["antes", "defeito", "depois"]) await ana.say(text);
  await ana.sees("depois", "sent");
  assert.deepEqual(await ana.texts(), ["antes", "depois"]);
  assert.equal(await ana.page.getByText("Esta mensagem não pode ser mostrada.").count(), 1);
});
