// Tests of a conversation between two windows: messages, names, typing and presence.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { Proxy } from "../lib/proxy.mjs";
import { PapoServer } from "../lib/server.mjs";

test("two windows talk; own messages are on the right", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  await ana.say("oi, Bia");
  await bia.sees("oi, Bia");
  await bia.say("oi, Ana");
  await ana.sees("oi, Ana");
  assert.deepEqual(await ana.texts(), ["oi, Bia", "oi, Ana"]);
  assert.deepEqual(await bia.texts(), ["oi, Bia", "oi, Ana"]);
  const isOwn = async (window, text) => (await window.message(text).getAttribute("class")).split(" ").includes("own");
  assert.deepEqual([await isOwn(ana, "oi, Bia"), await isOwn(ana, "oi, Ana")], [true, false]);
  assert.deepEqual([await isOwn(bia, "oi, Bia"), await isOwn(bia, "oi, Ana")], [false, true]);
  const box = (text) => ana.message(text).locator(".bubble").boundingBox();
  assert.ok((await box("oi, Bia")).x > (await box("oi, Ana")).x, "own messages are on the right");
  assert.equal(await ana.message("oi, Ana").locator(".author").textContent(), "Bia");
});

test("a message is pending until it is acknowledged", async (t) => {
  const server = await PapoServer.start(t);
  const proxy = await Proxy.to(server.port, { test: t });
  const ana = await ChatWindow.open(t, proxy.url, { name: "Ana" });
  proxy.hold();
  await ana.say("já chegou?");
  const pending = await ana.sees("já chegou?", "pending");
  assert.match(await pending.locator(".state").textContent(), /enviando/);
  proxy.release();
  const sent = await ana.sees("já chegou?", "sent");
  assert.match(await sent.locator(".state").textContent(), /enviada/);
  assert.deepEqual(await ana.texts(), ["já chegou?"]);
});

test("Enter and the button send, Shift+Enter breaks the line", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  await ana.page.locator("#message-input").pressSequentially("um");
  await ana.page.press("#message-input", "Shift+Enter");
  await ana.page.locator("#message-input").pressSequentially("dois");
  await ana.page.press("#message-input", "Enter");
  await ana.sees("um\ndois", "sent");
  await ana.page.fill("#message-input", "três");
  await ana.page.click("#send-btn");
  await ana.sees("três", "sent");
  await ana.say("   ");
  await ana.say("quatro");
  await ana.sees("quatro", "sent");
  assert.deepEqual(await ana.texts(), ["um\ndois", "três", "quatro"]);
  assert.equal(await ana.page.inputValue("#message-input"), "");
});

test("the page remembers a name, which can be changed", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url);
  await ana.page.waitForSelector("#name-dialog[open]");
  await ana.enter("Ana");
  await ana.say("com o nome antigo");
  await ana.sees("com o nome antigo", "sent");
  await ana.page.reload();
  await ana.connection("connected");
  assert.equal(await ana.page.locator("#name-dialog[open]").count(), 0, "the page does not ask for the name after a reload");
  assert.match(await (await ana.sees("com o nome antigo")).getAttribute("class"), /\bown\b/);
  await ana.page.click("#name-btn");
  await ana.page.fill("#name-input", "Ana Maria");
  await ana.page.click("#name-ok");
  await ana.until(() => document.getElementById("name-words").textContent === "Ana Maria");
  await ana.say("com o nome novo");
  await ana.sees("com o nome novo", "sent");
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  assert.equal(await (await bia.sees("com o nome antigo")).locator(".author").textContent(), "Ana");
  assert.equal(await (await bia.sees("com o nome novo")).locator(".author").textContent(), "Ana Maria");
});

test("a rejected name is asked for again with the reason", async (t) => {
  const server = await PapoServer.start(t, "--max-name-length", "5");
  const reads = async (window, name, words) => {
    await window.page.fill("#name-input", name);
    await window.page.press("#name-input", "Enter");
    await window.until((words) => document.getElementById("name-error").textContent === words, words);
  };
  const ana = await ChatWindow.open(t, server.url);
  await reads(ana, "Anastácia", "Este nome não pode ser usado aqui: um nome tem no máximo 5 caracteres.");
  await reads(ana, "An\u2800a", "Este nome não pode ser usado aqui: um nome não pode ter U+2800, que é invisível.");
  const bob = await ChatWindow.open(t, server.url, { locale: "en-GB" });
  await reads(bob, "Bo\u2800b", "This name cannot be used here: a name cannot contain U+2800, which is invisible.");
  await ana.enter("Ana");
  await ana.say("pronto");
  await ana.sees("pronto", "sent");
});

test("a name that looks like another member's gets a mark", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  // With a Cyrillic letter.
  const eva = await ChatWindow.open(t, server.url, { name: "Аna" });
  await eva.until(() => /^Аna #[0-9a-f]{4}$/.test(document.getElementById("name-words").textContent));
  await eva.say("sou a Ana");
  const author = (await ana.sees("sou a Ana")).locator(".author");
  assert.match(await author.textContent(), /^Аna #[0-9a-f]{4}$/);
  assert.match(await author.locator(".mark").textContent(), /^ #[0-9a-f]{4}$/);
  await ana.until(() => document.querySelectorAll(".person-name .mark").length === 1);
  const twin = await ChatWindow.open(t, server.url, { context: ana.context });
  await twin.connection("connected");
  assert.equal(await twin.page.textContent("#name-words"), "Ana", "the same person in another window");
});

test("a dismissed name dialog gives a guest name", async (t) => {
  const server = await PapoServer.start(t);
  const window = await ChatWindow.open(t, server.url);
  await window.page.press("#name-input", "Escape");
  await window.connection("connected");
  await window.until(() => document.getElementById("name-words").textContent.startsWith("visitante-"));
});

test("a second window can take another name", async (t) => {
  const server = await PapoServer.start(t);
  const first = await ChatWindow.open(t, server.url, { name: "Ana" });
  await first.say("da primeira");
  const second = await ChatWindow.open(t, server.url, { context: first.context });
  await second.connection("connected");
  assert.match(await (await second.sees("da primeira")).getAttribute("class"), /\bown\b/);
  await second.page.click("#twin-action");
  await second.page.fill("#name-input", "Bia");
  await second.page.click("#name-ok");
  await second.until(() => document.getElementById("name-words").textContent === "Bia" && document.querySelector(".message:not(.own)"));
  await second.say("da segunda");
  assert.doesNotMatch(await (await first.sees("da segunda")).getAttribute("class"), /\bown\b/);
});

test("other members see who is typing", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  const typing = (words) => document.getElementById("typing").textContent === words;
  await ana.page.locator("#message-input").pressSequentially("estou pens");
  await bia.until(typing, "Ana está digitando…");
  assert.equal(await ana.page.textContent("#typing"), "", "the page does not show its own person as typing");
  await ana.page.press("#message-input", "Enter");
  await bia.sees("estou pens");
  await bia.until(typing, "");
  await ana.page.locator("#message-input").pressSequentially("e parei");
  await bia.until(typing, "Ana está digitando…");
  await bia.until(typing, "");
});

test("the page lists and counts the members", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const people = (window, count, names) =>
    window.until(
      ([count, names]) => {
        const listed = [...document.querySelectorAll(".person-name")].map((name) => name.textContent);
        return document.getElementById("people-title").textContent === count && listed.join() === names;
      },
      [count, names],
    );
  await people(ana, "1 pessoa aqui", "Ana");
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  await people(ana, "2 pessoas aqui", "Ana,Bia");
  await people(bia, "2 pessoas aqui", "Bia,Ana");
  await bia.context.close();
  await people(ana, "1 pessoa aqui", "Ana");
});
