// Tests of what the page does without: interfaces that a browser forbids, and stored values that it cannot read.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { PapoServer, root } from "../lib/server.mjs";

/** Interfaces that a browser can forbid or lack: only the module that guards them may use them. */
const GUARDED = /\b(localStorage|sessionStorage|indexedDB|caches|cookie|BroadcastChannel|SharedWorker|serviceWorker|Notification|clipboard|wakeLock|navigator\.language\b|ResizeObserver|permissions)\b/;

test("only browser.js uses what a browser can forbid", () => {
  const folder = root("web/static/js");
  const modules = readdirSync(folder, { recursive: true }).filter((name) => name.endsWith(".js"));
  const users = modules.filter((name) => {
    // The name of a storage area is a text until browser.js uses it.
    const code = readFileSync(`${folder}/${name}`, "utf8").replace(/\/\/.*|\/\*[\s\S]*?\*\/|"(local|session)Storage"/g, "");
    return GUARDED.test(code);
  });
  assert.deepEqual(users, ["browser.js"]);
});

/** What Firefox does when all cookies are blocked, and what a browser without these interfaces does. */
function forbid() {
  const denied = () => {
    throw new DOMException("The operation is insecure.", "SecurityError");
  };
  for (const area of ["localStorage", "sessionStorage", "indexedDB", "caches"]) Object.defineProperty(window, area, { get: denied });
  Object.defineProperty(document, "cookie", { get: denied, set: denied });
  for (const name of ["BroadcastChannel", "ResizeObserver", "Notification", "SharedWorker"]) window[name] = class { constructor() { denied(); } };
  Object.defineProperty(navigator, "language", { get: () => "pt_BR@posix" });
  delete AbortSignal.timeout;
  delete URL.canParse;
}

test("the page works where the browser forbids storage and channels", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana", prepare: (page) => page.addInitScript(forbid) });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
  await ana.say("sem cookies: https://example.org");
  await bia.sees("sem cookies: https://example.org");
  await bia.say("oi");
  await ana.sees("oi");
  await ana.page.setViewportSize({ width: 800, height: 400 });
  await ana.page.reload();
  await ana.enter("Ana de novo");
  await ana.sees("oi");
  assert.deepEqual(ana.errors, []);
});

test("the page works with stored values that it cannot read", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const entry = { id: "a", text: "da gaveta", at: "ontem", state: "pending" };
  for (const [identity, outbox] of [
    ["{", "{"],
    ["5", "5"],
    ['"x"', '{"a":1}'],
    ['{"name":5,"token":"0123456789abcdef"}', "[null,5,{}]"],
    ['{"name":"Ana","token":"short"}', JSON.stringify([entry, { ...entry, id: 5 }, { ...entry, state: "lost" }])],
  ]) {
    await ana.page.evaluate(([identity, outbox]) => {
      for (const area of [localStorage, sessionStorage]) area.setItem("papo.identity", identity);
      sessionStorage.setItem("papo.outbox", outbox);
    }, [identity, outbox]);
    await ana.page.reload();
    await ana.enter("Ana");
  }
  await ana.sees("da gaveta", "sent");
  assert.deepEqual(await ana.texts(), ["da gaveta"]);
  assert.deepEqual(ana.errors, []);
});
