// The page of the original chat: one that only uses `send(text)` and `on("message", text)`.

import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { root } from "../lib/server.mjs";

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

/** A folder with Papo's page and, as original.html, the original page, whose client has these options (JavaScript; the defaults without). */
export async function originalPage(t, options = "") {
  const path = await mkdtemp(join(tmpdir(), "papo-page-"));
  t.after(() => rm(path, { recursive: true }));
  await cp(root("web"), path, { recursive: true });
  await writeFile(join(path, "original.html"), MARKUP);
  await writeFile(join(path, "original.js"), script(options));
  return path;
}
