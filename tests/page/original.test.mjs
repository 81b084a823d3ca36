// The original's behaviour stands: a page that only knows `send(text)` and `on("message", text)` talks with ours.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatWindow } from "./lib/browser.mjs";
import { PapoServer } from "./lib/server.mjs";

/** A page as a student would write it, with the Socket.IO client's defaults or the options given. */
const original = (options) => `<!doctype html>
<ul id="messages"></ul>
<input id="message-input" placeholder="Digite sua mensagem...">
<button id="send-btn">Enviar</button>
<script src="/static/vendor/socket.io.min.js"></script>
<script>
  const socket = io(${options});
  const input = document.getElementById("message-input");
  socket.on("message", (text) => {
    const item = document.createElement("li");
    item.textContent = text;
    document.getElementById("messages").appendChild(item);
  });
  document.getElementById("send-btn").onclick = () => {
    socket.send(input.value);
    input.value = "";
  };
</script>`;

async function openOriginal(t, server, options) {
  const window = new ChatWindow();
  const { context } = await ChatWindow.open(t, server.url);
  window.page = await context.newPage();
  await window.page.route("**/original.html", (route) => route.fulfill({ contentType: "text/html; charset=utf-8", body: original(options) }));
  await window.page.goto(`${server.url}/original.html`);
  return window;
}

for (const [transport, options, flags] of [
  ["WebSocket", `{ transports: ["websocket"] }`, []],
  ["the client's defaults, which begin with long-polling", "", ["--long-polling"]],
]) {
  test(`the original's page talks with ours by ${transport}`, async (t) => {
    const server = await PapoServer.start(t, ...flags);
    const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
    const student = await openOriginal(t, server, options);
    await student.page.fill("#message-input", "olá");
    await student.page.click("#send-btn");
    await ana.sees("olá");
    await student.page.locator("li", { hasText: "olá" }).waitFor();
    await ana.say("oi, estudante");
    await student.page.locator("li", { hasText: "oi, estudante" }).waitFor();
    assert.deepEqual(await student.page.locator("li").allTextContents(), ["olá", "oi, estudante"], "the sender gets its own echo, once");
    assert.match(await (await ana.sees("olá")).locator(".author").textContent(), /^visitante-/);
  });
}
