// Tests of the page's pure modules, without a browser.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

globalThis.navigator ??= { language: "pt-BR" };
const load = (name) => import(`../../web/static/js/${name}.js`);
const { initials, hue, length, segments, splitMark } = await load("text");
const { rows } = await load("rows");
const { Timeline } = await load("timeline");
const { Scrollback } = await load("scrollback");
const { Outbox } = await load("outbox");
const { Presence } = await load("presence");
const { Unread } = await load("unread");
const { dayInWords } = await load("dates");
const { inPortuguese } = await load("reasons");

const message = (offset, id = `m${offset}`) => ({ offset, id, sender: "s", user: "S", text: "t", at: offset });
const page = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => message(from + n));
const offsets = (timeline) => timeline.messages.map(({ offset }) => offset);
const begun = (messages, more = false) => {
  const timeline = new Timeline();
  timeline.begin({ epoch: "e", messages, recovered: false, more });
  return timeline;
};

test("links end where the address ends", () => {
  for (const [text, ...links] of [
    ["veja https://a.org.", "https://a.org"],
    ["(https://a.org/x)", "https://a.org/x"],
    ["https://pt.wikipedia.org/wiki/Papo_(aves), não?", "https://pt.wikipedia.org/wiki/Papo_(aves)"],
    ["HTTP://A.ORG e http://b.org!!", "HTTP://A.ORG", "http://b.org"],
    ["javascript:alert(1) data:text/html,x ftp://a.org xhttp://a.org http://"],
    ["https://a.org/<b>", "https://a.org/"],
    [""],
  ]) {
    const parts = segments(text);
    assert.equal(parts.map((part) => part.text).join(""), text);
    assert.deepEqual(parts.filter(({ href }) => href).map((part) => part.text), links);
    for (const { href } of parts) assert.match(href ?? "https://", /^https?:\/\//);
  }
});

test("initials, hues and lengths hold for every script", () => {
  assert.deepEqual(["Ana Souza", "bia", "李雷", "João da Silva", "...", "👩 x"].map(initials), ["AS", "B", "李", "JS", ".", "X"]);
  assert.equal(length("çé👋"), 3);
});

test("senders have many hues", () => {
  const senders = Array.from({ length: 5_000 }, (_, n) => (n * 2_654_435_761).toString(16).padStart(24, "0"));
  const hues = senders.map(hue);
  assert.ok(hues.every((degrees) => degrees >= 0 && degrees < 360));
  assert.ok(new Set(hues).size > 300, `${new Set(hues).size} hues`);
});

test("a mark is split from its name", () => {
  for (const [user, name, mark] of [["Ana #3f9a", "Ana", " #3f9a"], ["Ana", "Ana", ""], ["#3f9a", "#3f9a", ""], ["Ana #3F9A", "Ana #3F9A", ""], ["Ana #oi", "Ana #oi", ""], ["Ana #3f9a #bbbbcccc", "Ana #3f9a", " #bbbbcccc"]]) {
    assert.deepEqual(splitMark(user), { name, mark });
  }
});

test("days are today, yesterday, or a date", () => {
  const noon = new Date(2026, 10, 23, 12).getTime();
  const day = 86_400_000;
  assert.equal(dayInWords(noon, noon), "Hoje");
  assert.equal(dayInWords(noon - day, noon), "Ontem");
  assert.match(dayInWords(noon - 5 * day, noon), /18 de novembro/);
  assert.match(dayInWords(noon - 400 * day, noon), /2025/);
});

test("a repeated message is shown once", () => {
  const timeline = begun(page(1, 3));
  assert.equal(timeline.add(message(3)), false);
  assert.equal(timeline.add(message(4, "m2")), false);
  assert.equal(timeline.add(message(6)), true);
  assert.deepEqual([offsets(timeline), timeline.newest], [[1, 2, 3, 6], 6]);
});

test("a recovery adds messages, a new epoch replaces them", () => {
  const timeline = begun(page(1, 3), true);
  const missed = timeline.begin({ epoch: "e", messages: page(4, 5), recovered: true, more: true });
  assert.deepEqual([missed.length, offsets(timeline), timeline.notices], [2, [1, 2, 3, 4, 5], []]);
  timeline.begin({ epoch: "f", messages: page(0, 1), recovered: false, more: false });
  assert.deepEqual([offsets(timeline), timeline.notices], [[0, 1], [{ kind: "restarted", before: 0 }]]);
});

test("waiting messages come after the notice of a new epoch", () => {
  const timeline = begun([message(0)]);
  timeline.begin({ epoch: "f", messages: [], recovered: false, more: false });
  const waiting = { id: "w", text: "t", at: 0, state: "pending" };
  const kinds = rows({ timeline, outbox: [waiting], me: { user: "S", sender: "s" }, marker: null, loading: false }).map(({ kind }) => kind);
  assert.deepEqual(kinds, ["edge", "notice", "day", "message"]);
});

test("messages removed by retention leave a notice", () => {
  const timeline = begun(page(1, 3));
  timeline.begin({ epoch: "e", messages: page(50, 51), recovered: false, more: true, gap: { from: 4, to: 40 } });
  assert.deepEqual(timeline.notices, [{ kind: "gap", before: 50 }]);
});

test("the timeline moves both ways without a gap", () => {
  const timeline = begun(page(50, 60), true);
  timeline.prepend(page(40, 49), true);
  timeline.dropNewest(10);
  assert.deepEqual([offsets(timeline), timeline.detached], [page(40, 49).map(({ offset }) => offset), true]);
  assert.equal(timeline.add(message(61)), true, "the message is new, but not shown");
  timeline.append(page(50, 59), 60);
  assert.ok(timeline.detached);
  timeline.append(page(60, 61), 70);
  assert.deepEqual([timeline.detached, offsets(timeline).length, timeline.newest], [false, 22, 61]);
});

test("a jump to the end keeps the resume offset", () => {
  const timeline = begun(page(50, 60), true);
  timeline.dropNewest(2);
  timeline.add(message(61));
  timeline.jump(page(55, 60), true);
  assert.deepEqual([timeline.detached, timeline.newest], [true, 61]);
});

/** An outbox whose room gives these answers, one for each message. */
function outboxWith(answers) {
  const sent = [];
  const store = { value: null, get: () => store.value, set: (value) => (store.value = structuredClone(value)) };
  const send = (id, text) => (sent.push(text), Promise.resolve(answers.shift() ?? { ok: true, offset: sent.length, epoch: "e" }));
  const outbox = new Outbox({ store, send, changed: () => {} });
  return { outbox, sent, store };
}
const settled = () => new Promise((resolve) => setImmediate(resolve));
const states = ({ entries }) => entries.map(({ state }) => state);

test("a rejected jump to the end is repeated until it succeeds", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const timeline = begun(page(1, 700));
  const answers = [{ ok: false, code: "rate_limited" }, { ok: false, code: "unavailable" }, { ok: true, epoch: "e", messages: page(651, 700), more: true }];
  const requests = [];
  const scrollback = new Scrollback(timeline, async (request) => (requests.push(request), answers.shift()), () => {});
  scrollback.bound(false);
  assert.ok(timeline.detached);
  const done = scrollback.newest();
  let finished = false;
  done.then(() => (finished = true));
  for (let turn = 0; turn < 100 && !finished; turn += 1) {
    await new Promise(setImmediate);
    t.mock.timers.tick(100);
  }
  assert.deepEqual(requests, Array(3).fill({ before: 701, limit: 50 }));
  assert.deepEqual([timeline.detached, offsets(timeline)[0]], [false, 651]);
});

test("the outbox sends in order, only while connected", async () => {
  const { outbox, sent } = outboxWith([]);
  for (const id of ["a", "b", "c"]) outbox.add(id, id);
  await settled();
  assert.deepEqual(sent, []);
  outbox.open(true);
  await settled();
  assert.deepEqual([sent, states(outbox)], [["a", "b", "c"], ["sent", "sent", "sent"]]);
  outbox.settle(new Set(["a"]), { epoch: "e", newest: 2 });
  assert.deepEqual(outbox.entries.map(({ id }) => id), ["c"]);
});

test("a final rejection fails only its message", async () => {
  const { outbox, sent } = outboxWith([{ ok: false, code: "text_too_long" }]);
  outbox.open(true);
  outbox.add("a", "a");
  outbox.add("b", "b");
  await settled();
  assert.deepEqual([states(outbox), outbox.entries[0].code], [["failed", "sent"], "text_too_long"]);
  outbox.retry("a");
  await settled();
  assert.deepEqual([states(outbox), sent, outbox.entries[0].id], [["sent", "sent"], ["a", "b", "a"], "a"]);
});

test("a temporary rejection is retried in order", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { outbox, sent } = outboxWith([{ ok: false, code: "rate_limited" }, { ok: false, code: "unavailable" }]);
  outbox.open(true);
  outbox.add("a", "a");
  outbox.add("b", "b");
  for (let n = 0; n < 3; n += 1) {
    await settled();
    t.mock.timers.tick(10_000);
  }
  await settled();
  assert.deepEqual([sent, states(outbox)], [["a", "a", "a", "b"], ["sent", "sent"]]);
});

test("a message fails after enough temporary rejections", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { outbox } = outboxWith(Array.from({ length: 20 }, () => ({ ok: false, code: "unavailable" })));
  outbox.open(true);
  outbox.add("a", "a");
  for (let n = 0; n < 10; n += 1) {
    await settled();
    t.mock.timers.tick(10_000);
  }
  assert.deepEqual(states(outbox), ["failed"]);
});

test("the outbox survives a reload", async () => {
  const first = outboxWith([]);
  first.outbox.add("a", "oi");
  const again = new Outbox({ store: first.store, send: () => Promise.resolve({ ok: true, offset: 1, epoch: "e" }), changed: () => {} });
  again.open(true);
  await settled();
  assert.deepEqual([again.entries[0].text, states(again)], ["oi", ["sent"]]);
});

test("a member who leaves and joins again is present", () => {
  const presence = new Presence();
  presence.take({ count: 2, members: ["Ana", "Bia"] });
  presence.take({ count: 2, joined: ["Bia"], left: ["Bia"] });
  assert.deepEqual([[...presence.names], presence.rest], [["Ana", "Bia"], 0]);
  presence.take({ count: 150 });
  assert.equal(presence.rest, 148);
});

test("unread messages count until the window is visible", () => {
  const unread = new Unread();
  unread.arrived(message(1));
  unread.look(false);
  unread.arrived(message(2));
  unread.arrived(message(3));
  assert.deepEqual([unread.count, unread.marker], [2, 2]);
  unread.look(true);
  assert.deepEqual([unread.count, unread.marker], [0, 2]);
  unread.look(false);
  assert.equal(unread.marker, null);
});

test("each reason for a rejected name is in Portuguese", () => {
  const source = readFileSync(new URL("../../server/src/chat/name.rs", import.meta.url), "utf8");
  const errors = /enum InvalidName \{(.*?)^\}/ms.exec(source)[1];
  const sentences = [...errors.matchAll(/#\[error\(\s*"([^"]+)"/g)].map(([, sentence]) => sentence);
  assert.ok(sentences.length >= 8, `${sentences.length} reasons in name.rs`);
  for (const sentence of sentences) {
    const said = sentence.replace(/\{[^}]*\}/g, (_, at) => (/ (at most|or) $/.test(sentence.slice(0, at)) ? "5" : "U+2800"));
    assert.match(inPortuguese(said), /^um nome /, said);
    for (const value of said.match(/U\+2800|5/g) ?? []) assert.ok(inPortuguese(said).includes(value), said);
  }
  assert.equal(inPortuguese("a new reason"), "a new reason");
});
