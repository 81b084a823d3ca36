// Tests that the original chat's page still works: a page that only uses `send(text)` and `on("message", text)` talks with Papo's.

import assert from "node:assert/strict";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { PapoServer, root } from "../lib/server.mjs";

/** The original page's markup. Its script is in a file of its own, because the Content-Security-Policy allows no inline scripts. */
const MARKUP = `<!doctype html>
<ul id="messages"></ul>
<input id="message-input" placeholder="Digite sua mensagem...">
<button id="send-btn">Enviar</button>
<script src="/static/vendor/socket.io.min.js"></script>
<script src="/original.js"></script>`;

/** The original page's script, with these options of the Socket.IO client. */
const script = (options) => `
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
};`;

/** A folder with Papo's page and, as original.html, the original page. */
async function folder(t, options) {
  const path = await mkdtemp(join(tmpdir(), "papo-page-"));
  t.after(() => rm(path, { recursive: true }));
  await cp(root("web"), path, { recursive: true });
  await writeFile(join(path, "original.html"), MARKUP);
  await writeFile(join(path, "original.js"), script(options));
  return path;
}

for (const [transport, options] of [
  ["WebSocket", `{ transports: ["websocket"] }`],
  ["the client's defaults, which begin with long-polling", ""],
]) {
  test(`the original page talks with Papo's over ${transport}`, async (t) => {
    const server = await PapoServer.start(t, "--web-root", await folder(t, options));
    const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
    const student = await ChatWindow.open(t, `${server.url}/original.html`);
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
