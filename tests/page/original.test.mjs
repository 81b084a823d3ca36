// Tests that the original chat's page still works: it talks with Papo's.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { PapoServer } from "../lib/server.mjs";
import { originalPage } from "./original.mjs";

for (const [transport, options] of [
  ["WebSocket", `{ transports: ["websocket"] }`],
  ["the client's defaults, which begin with long-polling", ""],
]) {
  test(`the original page talks with Papo's over ${transport}`, async (t) => {
    const server = await PapoServer.start(t, "--web-root", await originalPage(t, options));
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
