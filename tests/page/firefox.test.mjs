// Tests of the page's main paths in Firefox, as Debian releases it, beside Chromium.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { Firefox, withoutFirefox } from "../lib/firefox.mjs";
import { Member, numbered } from "../lib/member.mjs";
import { Proxy } from "../lib/proxy.mjs";
import { PapoServer } from "../lib/server.mjs";
import { originalPage } from "./original.mjs";

/** The value of Firefox's preference `network.cookie.cookieBehavior` that blocks all cookies, and with them storage and channels. */
const BLOCKS_ALL_COOKIES = 2;

const options = { skip: withoutFirefox };
let firefox;
before(async () => (firefox = withoutFirefox ? undefined : await Firefox.launch()));
after(() => firefox?.close());

test("Firefox and Chromium talk", options, async (t) => {
  const server = await PapoServer.start(t);
  const ana = await firefox.open(t, server.url, { name: "Ana" });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  await ana.say("oi de Firefox: https://example.org/a_(b)");
  await bia.sees("oi de Firefox: https://example.org/a_(b)");
  await bia.page.locator("#message-input").pressSequentially("oi");
  await ana.reads("Bia está digitando…");
  await bia.say("oi de Chromium");
  await ana.sees("oi de Chromium");
  await ana.sees("oi de Firefox: https://example.org/a_(b)", "sent");
  for (const window of [ana, bia]) assert.deepEqual(await window.texts(), ["oi de Firefox: https://example.org/a_(b)", "oi de Chromium"]);
  assert.deepEqual(await ana.contents(".person-name"), ["Ana", "Bia"]);
  assert.deepEqual(await ana.contents(".text a[href='https://example.org/a_(b)']"), ["https://example.org/a_(b)"]);
  assert.deepEqual(ana.errors, []);
});

test("Firefox asks for a name, and says why one is rejected", options, async (t) => {
  const server = await PapoServer.start(t);
  const ana = await firefox.open(t, server.url);
  await ana.visible("#name-dialog[open]");
  await ana.fill("#name-input", "An\u2800a");
  await ana.press("Enter");
  await ana.reads("Este nome não pode ser usado aqui: um nome não pode ter U+2800, que é invisível.");
  await ana.enter("Ana");
  await ana.click("#name-btn");
  await ana.fill("#name-input", "Ana Maria");
  await ana.click("#name-ok");
  await ana.until(() => document.getElementById("name-words").textContent === "Ana Maria");
});

test("Firefox scrolls back to the beginning, and forward to the end", options, async (t) => {
  const server = await PapoServer.start(t, "--message-burst", "1000");
  const bia = await Member.join(server.url, "Bia", { test: t });
  const texts = numbered(120);
  await bia.say(...texts);
  const ana = await firefox.open(t, server.url, { name: "Ana" });
  await ana.sees("m 120");
  assert.deepEqual(await ana.texts(), texts.slice(-50), "the newest page");
  await ana.scrollToBeginning();
  assert.deepEqual(await ana.texts(), texts);
  await bia.say("m 121");
  await ana.visible("#newest-btn.fresh");
  await ana.click("#newest-btn");
  await ana.hidden("#newest-btn");
  assert.deepEqual(await ana.texts(), [...texts, "m 121"]);
});

test("Firefox shows each message once after a reload", options, async (t) => {
  const server = await PapoServer.start(t);
  const ana = await firefox.open(t, server.url, { name: "Ana" });
  const texts = numbered(3);
  for (const text of texts) await ana.say(text);
  await ana.sees("m 3", "sent");
  await ana.reload();
  await ana.connection("connected");
  await ana.sees("m 3");
  assert.deepEqual(await ana.texts(), texts);
  assert.equal((await ana.contents(".message.own")).length, 3, "the page remembers who wrote them");
});

test("Firefox gets the missed messages and sends its own after a cut", options, async (t) => {
  const server = await PapoServer.start(t);
  const proxy = await Proxy.to(server.port, { test: t });
  const ana = await firefox.open(t, proxy.url, { name: "Ana" });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  await bia.say("antes");
  await ana.sees("antes");
  proxy.cut();
  await ana.connection("reconnecting");
  await ana.say("na fila");
  await ana.sees("na fila", "pending");
  await bia.say("perdida");
  await bia.sees("perdida", "sent");
  proxy.mend();
  await ana.sees("na fila", "sent");
  for (const window of [ana, bia]) {
    await window.sees("na fila");
    assert.deepEqual(await window.texts(), ["antes", "perdida", "na fila"]);
  }
});

test("Firefox comes back to a restarted server", options, async (t) => {
  const server = await PapoServer.start(t);
  const ana = await firefox.open(t, server.url, { name: "Ana" });
  await ana.say("na vida anterior");
  await ana.sees("na vida anterior", "sent");
  await server.kill();
  await ana.connection("reconnecting");
  await ana.say("guardada");
  await server.start();
  await ana.reads("A conversa recomeçou");
  await ana.sees("guardada", "sent");
  assert.deepEqual(await ana.texts(), ["guardada"]);
});

test("the original page works in Firefox with the client's defaults", options, async (t) => {
  const server = await PapoServer.start(t, "--web-root", await originalPage(t));
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const student = await firefox.open(t, `${server.url}/original.html`);
  await student.fill("#message-input", "olá");
  await student.click("#send-btn");
  await ana.sees("olá");
  await ana.say("oi, estudante");
  await student.reads("oi, estudante");
  assert.deepEqual(await student.contents("li"), ["olá", "oi, estudante"]);
});

test("the page works in Firefox with all cookies blocked", options, async (t) => {
  const strict = await Firefox.launch({ "network.cookie.cookieBehavior": BLOCKS_ALL_COOKIES });
  t.after(() => strict.close());
  const server = await PapoServer.start(t);
  const ana = await strict.open(t, server.url, { name: "Ana" });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  const forbidden = await ana.evaluate(() => {
    const throws = (use) => {
      try {
        use();
        return false;
      } catch {
        return true;
      }
    };
    return [throws(() => new BroadcastChannel("x")), throws(() => localStorage)];
  });
  assert.deepEqual(forbidden, [true, true], "this is the browser of which the test speaks");
  await ana.say("sem cookies");
  await bia.sees("sem cookies");
  await bia.say("oi");
  await ana.sees("oi");
  assert.deepEqual(ana.errors, []);
});
