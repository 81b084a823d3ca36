// Tests of reconnecting: after a cut connection or a restarted server no message is lost or shown twice.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { Member, numbered } from "../lib/member.mjs";
import { Proxy } from "../lib/proxy.mjs";
import { PapoServer } from "../lib/server.mjs";

test("messages typed offline are sent in order after reconnecting", async (t) => {
  const server = await PapoServer.start(t);
  const proxy = await Proxy.to(server.port, { test: t });
  const ana = await ChatWindow.open(t, proxy.url, { name: "Ana" });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  proxy.cut();
  await ana.connection("reconnecting");
  assert.match(await ana.page.textContent("#connection-words"), /Sem conexão/);
  const texts = numbered(5, "guardada");
  for (const text of texts) await ana.say(text);
  const waiting = await ana.sees("guardada 5", "pending");
  assert.match(await waiting.locator(".state").textContent(), /na fila/);
  assert.equal((await bia.texts()).length, 0);
  proxy.mend();
  await ana.sees("guardada 5", "sent");
  await bia.sees("guardada 5");
  assert.deepEqual(await bia.texts(), texts);
  assert.deepEqual(await ana.texts(), texts);
});

test("messages typed offline survive a reload", async (t) => {
  const server = await PapoServer.start(t);
  const proxy = await Proxy.to(server.port, { test: t });
  const ana = await ChatWindow.open(t, proxy.url, { name: "Ana" });
  proxy.cut();
  await ana.connection("reconnecting");
  await ana.say("escrita antes de recarregar");
  await ana.sees("escrita antes de recarregar", "pending");
  proxy.mend();
  await ana.page.reload();
  await ana.sees("escrita antes de recarregar", "sent");
  assert.deepEqual(await ana.texts(), ["escrita antes de recarregar"]);
});

test("a message with a lost acknowledgement is shown once", async (t) => {
  const server = await PapoServer.start(t);
  const proxy = await Proxy.to(server.port, { test: t });
  const ana = await ChatWindow.open(t, proxy.url, { name: "Ana" });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  proxy.hold();
  await ana.say("uma vez só");
  await bia.sees("uma vez só");
  proxy.cut();
  proxy.release();
  await ana.connection("reconnecting");
  proxy.mend();
  await ana.sees("uma vez só", "sent");
  await bia.say("agora eu");
  await ana.sees("agora eu");
  assert.deepEqual(await ana.texts(), ["uma vez só", "agora eu"]);
  assert.deepEqual(await bia.texts(), ["uma vez só", "agora eu"]);
});

test("a reconnected page shows exactly the missed messages", async (t) => {
  const server = await PapoServer.start(t, "--message-burst", "1000");
  const proxy = await Proxy.to(server.port, { test: t });
  const ana = await ChatWindow.open(t, proxy.url, { name: "Ana" });
  const bia = await Member.join(server.url, "Bia", { test: t });
  await bia.say("antes");
  await ana.sees("antes");
  proxy.cut();
  await ana.connection("reconnecting");
  const missed = numbered(200, "perdida");
  await bia.say(...missed);
  proxy.mend();
  await ana.sees("perdida 200");
  assert.deepEqual(await ana.texts(), ["antes", ...missed]);
  assert.equal(await ana.page.locator(".notice").count(), 0);
});

test("messages above the rate limit are delayed, not lost", async (t) => {
  const server = await PapoServer.start(t, "--message-burst", "3", "--max-messages-per-second", "5");
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const texts = numbered(8, "rápida");
  for (const text of texts) await ana.say(text);
  await ana.sees("rápida 8", "sent");
  assert.deepEqual(await ana.texts(), texts);
});

test("a rejected message can be retried or discarded", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  await server.kill();
  await ana.connection("reconnecting");
  await ana.say("longa demais para a sala pequena");
  await ana.say("esta também é longa demais");
  await ana.say("curta");
  await server.start("--max-message-length", "10");
  const failed = await ana.sees("longa demais para a sala pequena", "failed");
  assert.match(await failed.locator(".state").textContent(), /Não enviada: a mensagem é longa demais/);
  await ana.sees("esta também é longa demais", "failed");
  await ana.sees("curta", "sent");
  await (await ana.sees("esta também é longa demais")).locator("button.discard").click();
  const id = await failed.getAttribute("data-id");
  await server.kill();
  await ana.connection("reconnecting");
  await server.start();
  await ana.connection("connected");
  await (await ana.sees("longa demais para a sala pequena", "failed")).locator("button.retry").click();
  const sent = await ana.sees("longa demais para a sala pequena", "sent");
  assert.equal(await sent.getAttribute("data-id"), id, "a retry has the same id");
  assert.deepEqual(await ana.texts(), ["longa demais para a sala pequena"]);
});

test("a new epoch clears the page and shows a notice", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  await ana.say("na vida anterior");
  await ana.sees("na vida anterior", "sent");
  await server.kill();
  await server.start();
  await ana.page.getByText("A conversa recomeçou").waitFor();
  assert.deepEqual(await ana.texts(), []);
  await ana.say("na vida nova");
  await ana.sees("na vida nova", "sent");
});

test("the page says that the server drains, and reconnects", async (t) => {
  const server = await PapoServer.start(t, "--drain-period", "1");
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const states = [];
  await ana.page.exposeFunction("noteState", (state) => states.push(state));
  await ana.page.evaluate(() => {
    const element = document.getElementById("connection");
    new MutationObserver(() => window.noteState(element.dataset.state)).observe(element, { attributes: true });
  });
  const ended = server.terminate();
  await ana.connection("reconnecting");
  assert.equal(states[0], "draining");
  await ended;
  await server.start();
  await ana.connection("connected");
});

test("the page waits for a place in a full room", async (t) => {
  const server = await PapoServer.start(t, "--max-connections", "1");
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const bia = await ChatWindow.open(t, server.url);
  await bia.page.fill("#name-input", "Bia");
  await bia.page.press("#name-input", "Enter");
  await bia.connection("rejected");
  assert.match(await bia.page.textContent("#connection-words"), /A sala está cheia/);
  await ana.context.close();
  await bia.connection("connected");
});

test("the page says when the browser is offline", async (t) => {
  const server = await PapoServer.start(t);
  const proxy = await Proxy.to(server.port, { test: t });
  const ana = await ChatWindow.open(t, proxy.url, { name: "Ana" });
  await ana.context.setOffline(true);
  proxy.cut();
  await ana.connection("offline");
  assert.match(await ana.page.textContent("#connection-words"), /Sem internet/);
  proxy.mend();
  await ana.context.setOffline(false);
  await ana.connection("connected");
});
