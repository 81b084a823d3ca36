// Tests of the page's pure modules, without a browser.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

globalThis.navigator ??= { language: "pt-BR" };
const load = (name) => import(`../../web/static/js/${name}.js`);
const { initials, hue, length, segments, splitMark } = await load("text");
const { Timeline } = await load("timeline");
const { Scrollback } = await load("scrollback");
const { Outbox } = await load("outbox");
const { Presence } = await load("presence");
const { Unread } = await load("unread");
const { dayInWords } = await load("dates");

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

/** The relative luminance of a colour in OKLCH, with channels outside sRGB cut off as browsers do (CSS Color 4, WCAG 2.2). */
function luminance(lightness, chroma, degrees) {
  const [a, b] = [Math.cos, Math.sin].map((of) => chroma * of((degrees * Math.PI) / 180));
  const [l, m, s] = [[0.3963377774, 0.2158037573], [-0.1055613458, -0.0638541728], [-0.0894841775, -1.291485548]].map(([x, y]) => (lightness + x * a + y * b) ** 3);
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((channel) => Math.min(1, Math.max(0, channel)));
  return luminanceOf(linear);
}

const luminanceOf = ([red, green, blue]) => 0.2126 * red + 0.7152 * green + 0.0722 * blue;

function luminanceOfHex(colour) {
  const channels = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255);
  return luminanceOf(channels.map((channel) => (channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4)));
}

test("avatars and authors of every hue have the contrast of WCAG AA in both themes", () => {
  const style = readFileSync(new URL("../../web/static/style.css", import.meta.url), "utf8");
  const [light, dark] = style.split("@media (prefers-color-scheme: dark)");
  const variable = (name, theme) => new RegExp(`--${name}: ([^;]+);`).exec(theme)?.[1];
  const chroma = (rule) => Number(new RegExp(`oklch\\(var\\(--${rule}\\) ([0-9.]+) `).exec(style)[1]);
  const contrast = (one, other) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  for (const [name, theme] of Object.entries({ light, dark })) {
    const value = (key) => variable(key, theme) ?? variable(key, light);
    for (let degrees = 0; degrees < 360; degrees += 1) {
      const avatar = luminance(Number(value("hue-light")), chroma("hue-light"), degrees);
      assert.ok(contrast(avatar, 1) >= 4.5, `${name}: white on the avatar of hue ${degrees}: ${contrast(avatar, 1)}`);
      const author = luminance(Number(value("author-light")), chroma("author-light"), degrees);
      const bubble = contrast(author, luminanceOfHex(value("raised")));
      assert.ok(bubble >= 4.5, `${name}: author of hue ${degrees}: ${bubble}`);
    }
  }
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
