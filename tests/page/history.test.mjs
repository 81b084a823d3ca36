// Tests of history on the page: the newest page, scrolling back, and unread messages.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { Member, numbered } from "../lib/member.mjs";
import { PapoServer } from "../lib/server.mjs";
import { until } from "../lib/wait.mjs";

const FAST = ["--message-burst", "100000"];
/** Maximum number of messages that the page keeps. */
const MOST = 600;

const messages = (count, from) => numbered(count, "mensagem", from);
const numbers = (texts) => texts.map((text) => Number(text.split(" ")[1]));
const oneTo = (count) => Array.from({ length: count }, (_, n) => n + 1);
const atEnd = () => {
  const { scrollHeight, scrollTop, clientHeight } = document.getElementById("messages");
  return scrollHeight - scrollTop - clientHeight < 2;
};

test("a late joiner sees the end of the newest page", async (t) => {
  const server = await PapoServer.start(t, ...FAST);
  const ana = await Member.join(server.url, "Ana", { test: t });
  await ana.say(...messages(70));
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  await bia.sees("mensagem 70");
  assert.deepEqual(numbers(await bia.texts()), oneTo(70).slice(20));
  assert.ok(await bia.page.evaluate(atEnd));
  assert.equal(await bia.page.title(), "geral · Papo", "messages of the history do not count as unread");
});

test("older messages load above without moving the view", async (t) => {
  const server = await PapoServer.start(t, ...FAST);
  const ana = await Member.join(server.url, "Ana", { test: t });
  await ana.say(...messages(130));
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  await bia.sees("mensagem 130");
  const jumps = await bia.page.evaluate(async () => {
    const list = document.getElementById("messages");
    const frame = () => new Promise(requestAnimationFrame);
    const top = (element) => element.getBoundingClientRect().top;
    const jumps = [];
    const end = Date.now() + 60_000;
    while (!document.querySelector(".edge.beginning") && Date.now() < end) {
      list.scrollTop = Math.max(0, list.scrollTop - 150);
      const box = list.getBoundingClientRect();
      const reading = [...list.querySelectorAll(".message")].find((message) => message.getBoundingClientRect().bottom > box.top);
      const [before, count] = [top(reading), list.childElementCount];
      for (let frames = 0; frames < 8; frames += 1) await frame();
      if (list.childElementCount !== count) jumps.push(top(reading) - before);
    }
    return jumps;
  });
  assert.ok(jumps.length > 0, "older messages were loaded");
  assert.ok(jumps.every((jump) => Math.abs(jump) < 1.5), `moved by ${jumps}`);
  assert.deepEqual(numbers(await bia.texts()), oneTo(130));
  assert.equal(await bia.page.textContent(".edge"), "Aqui começa a conversa");
});

test("new messages do not move a scrolled-up view", async (t) => {
  const server = await PapoServer.start(t, ...FAST);
  const ana = await Member.join(server.url, "Ana", { test: t });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  await ana.say(...messages(40));
  await bia.sees("mensagem 40");
  await bia.scrollTo(200);
  await bia.page.waitForSelector("#newest-btn:not([hidden])");
  const top = () => bia.page.evaluate(() => document.getElementById("messages").scrollTop);
  const before = await top();
  await ana.say(...messages(3, 41));
  await bia.sees("mensagem 43");
  await bia.until(() => document.title.startsWith("(3) "));
  assert.equal(await top(), before);
  assert.match(await bia.page.textContent("#newest-btn"), /3 novas mensagens/);
  const marked = await bia.page.evaluate(() => document.querySelector(".marker").nextElementSibling.querySelector(".text").textContent);
  assert.equal(marked, "mensagem 41");
  await bia.page.click("#newest-btn");
  await bia.until(() => !document.title.startsWith("("));
  assert.ok(await bia.page.evaluate(atEnd));
  assert.equal(await bia.page.locator(".marker").count(), 1, "the line above the first new message stays");
  await bia.say("li tudo");
  await bia.until(() => !document.querySelector(".marker"));
});

test("the title of a hidden window counts unread messages", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await Member.join(server.url, "Ana", { test: t });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  await bia.setHidden(true);
  await ana.say("ei");
  await ana.say("cadê você?");
  await bia.until(() => document.title === "(2) geral · Papo");
  await bia.setHidden(false);
  await bia.until(() => document.title === "geral · Papo");
});

test("a view at the end stays at the end", async (t) => {
  const server = await PapoServer.start(t, ...FAST);
  const ana = await Member.join(server.url, "Ana", { test: t });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  await ana.say(...messages(40));
  await bia.sees("mensagem 40");
  await bia.page.setViewportSize({ width: 1280, height: 420 });
  await bia.until(atEnd);
  await ana.say(...messages(1, 41));
  await bia.sees("mensagem 41");
  assert.ok(await bia.page.evaluate(atEnd));
});

test("messages far from the view are unloaded and loaded again", async (t) => {
  const server = await PapoServer.start(t, ...FAST);
  const ana = await Member.join(server.url, "Ana", { test: t });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  await ana.say(...messages(900));
  await bia.sees("mensagem 900");
  assert.ok((await bia.texts()).length <= MOST, "the oldest are unloaded at the end");
  await scrollUntil(bia, 0, () => document.querySelector(".edge.beginning"));
  let texts = numbers(await bia.texts());
  assert.equal(texts[0], 1);
  assert.ok(texts.length <= MOST && texts.at(-1) < 900, "the newest are unloaded at the beginning");
  await ana.say("mensagem 901");
  await scrollUntil(bia, 1e9, () => [...document.querySelectorAll(".text")].at(-1).textContent === "mensagem 901");
  texts = numbers(await bia.texts());
  assert.deepEqual(texts, oneTo(901).slice(-texts.length), "no message is missing");
  await scrollUntil(bia, 0, () => document.querySelector(".edge.beginning"));
  await bia.page.click("#newest-btn");
  await bia.sees("mensagem 901");
  await bia.until(() => document.getElementById("newest-btn").hidden);
});

/** Scrolls to `top` again and again until the page says that `condition` holds. */
function scrollUntil(window, top, condition) {
  return until(`scrolled to ${top}: ${condition}`, async () => {
    await window.scrollTo(top);
    return window.page.evaluate(condition);
  });
}
