// The connection is cut, the server goes and comes back: nothing is lost, nothing is shown twice.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Bot } from "./lib/bot.mjs";
import { ChatWindow } from "./lib/browser.mjs";
import { PapoServer } from "./lib/server.mjs";
import { Wire } from "./lib/wire.mjs";

const numbered = (count, text) => Array.from({ length: count }, (_, n) => `${text} ${n + 1}`);

test("what was typed offline waits visibly, and is sent in order after reconnecting", async (t) => {
  const server = await PapoServer.start(t);
  const wire = await Wire.to(t, server.port);
  const ana = await ChatWindow.open(t, wire.url, { name: "Ana" });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  wire.cut();
  await ana.connection("reconnecting");
  assert.match(await ana.page.textContent("#connection-words"), /Sem conexão/);
  const texts = numbered(5, "guardada");
  for (const text of texts) await ana.say(text);
  const waiting = await ana.sees("guardada 5", "pending");
  assert.match(await waiting.locator(".state").textContent(), /na fila/);
  assert.equal((await bia.texts()).length, 0);
  wire.mend();
  await ana.sees("guardada 5", "sent");
  await bia.sees("guardada 5");
  assert.deepEqual(await bia.texts(), texts);
  assert.deepEqual(await ana.texts(), texts);
});

test("what was typed offline survives a reload", async (t) => {
  const server = await PapoServer.start(t);
  const wire = await Wire.to(t, server.port);
  const ana = await ChatWindow.open(t, wire.url, { name: "Ana" });
  wire.cut();
  await ana.connection("reconnecting");
  await ana.say("escrita antes de recarregar");
  await ana.sees("escrita antes de recarregar", "pending");
  wire.mend();
  await ana.page.reload();
  await ana.sees("escrita antes de recarregar", "sent");
  assert.deepEqual(await ana.texts(), ["escrita antes de recarregar"]);
});

test("a message whose answer was lost is shown once", async (t) => {
  const server = await PapoServer.start(t);
  const wire = await Wire.to(t, server.port);
  const ana = await ChatWindow.open(t, wire.url, { name: "Ana" });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  wire.hold();
  await ana.say("uma vez só");
  await bia.sees("uma vez só");
  wire.cut();
  wire.release();
  await ana.connection("reconnecting");
  wire.mend();
  await ana.sees("uma vez só", "sent");
  await bia.say("agora eu");
  await ana.sees("agora eu");
  assert.deepEqual(await ana.texts(), ["uma vez só", "agora eu"]);
  assert.deepEqual(await bia.texts(), ["uma vez só", "agora eu"]);
});

test("who was cut off gets exactly what was missed, in order", async (t) => {
  const server = await PapoServer.start(t, "--message-burst", "1000");
  const wire = await Wire.to(t, server.port);
  const ana = await ChatWindow.open(t, wire.url, { name: "Ana" });
  const bia = await Bot.join(t, server.url, "Bia");
  await bia.say("antes");
  await ana.sees("antes");
  wire.cut();
  await ana.connection("reconnecting");
  const missed = numbered(200, "perdida");
  await bia.say(...missed);
  wire.mend();
  await ana.sees("perdida 200");
  assert.deepEqual(await ana.texts(), ["antes", ...missed]);
  assert.equal(await ana.page.locator(".notice").count(), 0);
});

test("too many messages at once are slowed down, not lost", async (t) => {
  const server = await PapoServer.start(t, "--message-burst", "3", "--max-messages-per-second", "5");
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const texts = numbered(8, "rápida");
  for (const text of texts) await ana.say(text);
  await ana.sees("rápida 8", "sent");
  assert.deepEqual(await ana.texts(), texts);
});

test("a refused message says so, and can be tried again or discarded", async (t) => {
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

test("a log that began anew is shown as such", async (t) => {
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

test("the page says that the server is going, and comes back to the next one", async (t) => {
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

test("a full room says so in words, and lets in when there is room again", async (t) => {
  const server = await PapoServer.start(t, "--max-connections", "1");
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const bia = await ChatWindow.open(t, server.url);
  await bia.page.fill("#name-input", "Bia");
  await bia.page.press("#name-input", "Enter");
  await bia.connection("refused");
  assert.match(await bia.page.textContent("#connection-words"), /A sala está cheia/);
  await ana.context.close();
  await bia.connection("connected");
});

test("a browser that goes offline is told in its own words", async (t) => {
  const server = await PapoServer.start(t);
  const wire = await Wire.to(t, server.port);
  const ana = await ChatWindow.open(t, wire.url, { name: "Ana" });
  await ana.context.setOffline(true);
  wire.cut();
  await ana.connection("offline");
  assert.match(await ana.page.textContent("#connection-words"), /Sem internet/);
  wire.mend();
  await ana.context.setOffline(false);
  await ana.connection("connected");
});
