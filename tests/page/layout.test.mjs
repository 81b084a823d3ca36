// Tests of the page's layout: languages, light and dark, phone and desktop, and what a screen reader reads. Writes screenshots/.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatWindow, DESKTOP, PHONE } from "../lib/browser.mjs";
import { PapoServer } from "../lib/server.mjs";

/** A conversation between the two, the same for each picture. */
async function converse(ana, bia) {
  await ana.say("Oi, gente! 👋 Começamos às três?");
  await bia.sees("Oi, gente! 👋 Começamos às três?");
  await bia.say("Oi, Ana! Pode ser.");
  await bia.say("A pauta está aqui: https://example.org/reuniao/2026?sala=geral");
  await ana.sees("A pauta está aqui: https://example.org/reuniao/2026?sala=geral");
  await ana.say("Obrigada! Levo o bolo de fubá, mas vou chegar uns dez minutos atrasada porque o ônibus está demorando hoje.");
  await bia.sees("Obrigada! Levo o bolo de fubá, mas vou chegar uns dez minutos atrasada porque o ônibus está demorando hoje.");
  await bia.say("<img src=x onerror=alert(1)> aqui é só texto 😄");
  await ana.sees("<img src=x onerror=alert(1)> aqui é só texto 😄");
  await ana.say("Combinado então");
  await ana.sees("Combinado então", "sent");
  await bia.page.locator("#message-input").pressSequentially("E o caf");
  await ana.until(() => document.getElementById("typing").textContent);
}

const overflow = () => document.documentElement.scrollWidth - document.documentElement.clientWidth;

for (const colorScheme of ["light", "dark"]) {
  test(`a conversation on a phone and on a desktop, ${colorScheme}`, async (t) => {
    const server = await PapoServer.start(t, "--title", "Papo da firma");
    const ana = await ChatWindow.open(t, server.url, { name: "Ana Souza", colorScheme });
    const bia = await ChatWindow.open(t, server.url, { name: "Bia", colorScheme, viewport: PHONE, hasTouch: true, isMobile: true });
    await converse(ana, bia);
    assert.deepEqual([await ana.page.evaluate(overflow), await bia.page.evaluate(overflow)], [0, 0], "no element is wider than its window");
    await ana.screenshot(`desktop-${colorScheme}`);
    await bia.screenshot(`phone-${colorScheme}`);
    await bia.page.click("#people-btn");
    await bia.page.locator("#people-list").waitFor({ state: "visible" });
    await bia.screenshot(`phone-people-${colorScheme}`);
    await bia.page.setViewportSize(DESKTOP);
    await ana.page.setViewportSize(PHONE);
    await bia.screenshot(`desktop-other-${colorScheme}`);
    await ana.screenshot(`phone-other-${colorScheme}`);
    const [background, text] = await ana.page.evaluate(() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color].map((color) => Number(color.match(/\d+/)[0])));
    assert.equal(background > text, colorScheme === "light", "the page follows the system's choice");
  });
}

test("long words, names and links fit a phone", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "A".repeat(40), viewport: PHONE });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia", viewport: PHONE });
  const texts = ["ã".repeat(300), `https://example.org/${"a/".repeat(100)}`, "W".repeat(60)];
  for (const text of texts) await ana.say(text);
  await bia.sees(texts[2]);
  assert.deepEqual([await ana.page.evaluate(overflow), await bia.page.evaluate(overflow)], [0, 0]);
  assert.ok(await bia.page.evaluate(() => document.getElementById("messages").scrollWidth <= document.getElementById("messages").clientWidth));
  await bia.screenshot("phone-long");
});

test("the list of people is below a header with a long sentence", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana", viewport: PHONE });
  await server.kill();
  await ana.page.route("**/socket.io/**", (route) => route.fulfill({ status: 403 }));
  await ana.connection("rejected");
  await ana.page.click("#people-btn");
  await ana.page.locator("#people-list").waitFor({ state: "visible" });
  const [header, people] = await Promise.all([".bar", "#people"].map((selector) => ana.page.locator(selector).boundingBox()));
  assert.ok(people.y >= header.y + header.height, JSON.stringify({ header, people }));
  assert.equal(await ana.page.evaluate(overflow), 0);
  await ana.screenshot("phone-rejected");
});

test("the page shows failed and waiting messages", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url);
  await ana.screenshot("desktop-name");
  await ana.enter("Ana");
  await server.kill();
  await ana.connection("reconnecting");
  await ana.say("esta mensagem é longa demais para a sala que vem");
  await ana.sees("esta mensagem é longa demais para a sala que vem", "pending");
  await ana.screenshot("desktop-waiting");
  await server.start("--max-message-length", "10");
  await ana.sees("esta mensagem é longa demais para a sala que vem", "failed");
  await ana.page.fill("#message-input", "comprida demais");
  await ana.screenshot("desktop-failed");
  assert.equal(await ana.page.textContent("#composer-hint"), "5 caracteres a mais");
  assert.ok(await ana.page.isDisabled("#send-btn"));
});

test("the page follows the browser's language: Portuguese or English", async (t) => {
  const server = await PapoServer.start(t);
  for (const [locale, placeholder, state, language] of [
    ["pt-BR", "Digite sua mensagem...", "Conectado", "pt-BR"],
    ["en-GB", "Type your message...", "Connected", "en-GB"],
    ["de-DE", "Digite sua mensagem...", "Conectado", "pt-BR"],
  ]) {
    const window = await ChatWindow.open(t, server.url, { name: "Ana", locale });
    assert.equal(await window.page.getAttribute("#message-input", "placeholder"), placeholder);
    assert.equal(await window.page.textContent("#connection-words"), state);
    assert.equal(await window.page.getAttribute("html", "lang"), language);
  }
});

test("days have headings and times follow the browser's locale", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  await ana.say("hoje");
  await ana.sees("hoje", "sent");
  assert.equal(await ana.page.textContent(".day"), "Hoje");
  assert.match(await ana.page.textContent(".message time"), /^\d\d:\d\d$/);
  const american = await ChatWindow.open(t, server.url, { name: "Bob", locale: "en-US" });
  await american.sees("hoje");
  assert.equal(await american.page.textContent(".day"), "Today");
  assert.match(await american.page.textContent(".message time"), /\d:\d\d\s[AP]M$/);
});

test("the page works with screen readers and the keyboard", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const attributes = (selector, ...names) => Promise.all(names.map((name) => ana.page.getAttribute(selector, name)));
  assert.deepEqual(await attributes("#messages", "role", "aria-live", "aria-label", "tabindex"), ["log", "polite", "Mensagens", "0"]);
  assert.deepEqual(await attributes("#connection", "role"), ["status"]);
  assert.equal(await ana.page.getByRole("textbox", { name: "Mensagem", exact: true }).getAttribute("id"), "message-input");
  assert.equal(await ana.page.getByRole("button", { name: "Enviar" }).getAttribute("id"), "send-btn");
  assert.equal(await ana.page.getByRole("button", { name: "Mudar de nome: Ana" }).count(), 1);
  assert.equal(await ana.page.evaluate(() => document.activeElement.id), "message-input", "the message field has the focus");
  const reached = [];
  for (let n = 0; n < 4; n += 1) {
    await ana.page.keyboard.press("Tab");
    reached.push(await ana.page.evaluate(() => [document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]));
  }
  const visible = Object.fromEntries(reached);
  assert.equal(visible["send-btn"], "solid", `the focused element has an outline: ${JSON.stringify(reached)}`);
  await ana.say("lida em voz alta");
  await ana.sees("lida em voz alta", "sent");
  await ana.until(() => document.getElementById("messages").ariaBusy === "false");
  await ana.say("e esta também");
  await ana.sees("e esta também", "sent");
  const read = await ana.page.locator("#messages").ariaSnapshot();
  assert.equal(read.match(/article:\s+- text: Ana /g)?.length, 2, `each message is read with its author:\n${read}`);
});
