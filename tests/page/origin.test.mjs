// Tests of a page whose origin or host the server rejects: the page says what is wrong, and connects when it is allowed.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { Proxy } from "../lib/proxy.mjs";
import { PapoServer } from "../lib/server.mjs";
import { until } from "../lib/wait.mjs";

/** A reverse proxy that does not pass on the browser's `Host`, which is a common mistake. It counts the upgrade requests. */
async function forgetful(t, port) {
  const proxy = { upgrades: 0 };
  const server = createServer((client) => {
    const upstream = connect(port, "127.0.0.1");
    client.on("data", (bytes) => {
      const text = bytes.toString("latin1");
      if (/^upgrade: websocket\r$/im.test(text)) proxy.upgrades += 1;
      upstream.write(text.replace(/^Host: .*\r$/im, `Host: 127.0.0.1:${port}\r`), "latin1");
    });
    upstream.on("data", (bytes) => client.write(bytes));
    for (const [one, other] of [[client, upstream], [upstream, client]]) one.on("error", () => other.destroy()).on("close", () => other.destroy());
  });
  t.after(() => server.close());
  await once(server.listen(0, "127.0.0.1"), "listening");
  proxy.url = `http://127.0.0.1:${server.address().port}`;
  return proxy;
}

/** Enters without waiting, and notes each state of the connection. */
async function enter(window) {
  const states = [];
  await window.page.exposeFunction("noteState", (state) => states.push(state));
  await window.page.evaluate(() => {
    const element = document.getElementById("connection");
    new MutationObserver(() => window.noteState(element.dataset.state)).observe(element, { attributeFilter: ["data-state"] });
  });
  await window.page.fill("#name-input", "Ana");
  await window.page.press("#name-input", "Enter");
  return states;
}

test("the page names a rejected origin, and connects once allowed", async (t) => {
  const server = await PapoServer.start(t);
  const proxy = await forgetful(t, server.port);
  const ana = await ChatWindow.open(t, proxy.url);
  const states = await enter(ana);
  await ana.connection("rejected");
  const words = await ana.page.textContent("#connection-words");
  assert.ok(words.startsWith("O servidor não aceita conexões da origem ") && words.includes(proxy.url), words);
  await until("the state is noted", () => states.at(-1) === "rejected");
  const [tries, noted] = [proxy.upgrades, states.length];
  await until("the page has tried again", () => proxy.upgrades >= tries + 3);
  assert.deepEqual(new Set([...states.slice(noted), "rejected"]), new Set(["rejected"]), "it does not say that it tries again");
  await server.kill();
  await server.start("--allow-origin", proxy.url);
  await ana.connection("connected");
  await ana.say("agora sim");
  await ana.sees("agora sim", "sent");
});

test("a page at a rejected host says so", async (t) => {
  const server = await PapoServer.start(t);
  // Loaded before the server was restarted with a list of hosts.
  const ana = await ChatWindow.open(t, `http://papo.localhost:${server.port}`, { locale: "en-GB" });
  await server.kill();
  await server.start("--allow-host", "chat.example");
  await enter(ana);
  await ana.connection("rejected");
  assert.match(await ana.page.textContent("#connection-words"), /^The server is not reached as papo\.localhost:\d+\./);
});

test("an unreachable server is no rejection", async (t) => {
  const server = await PapoServer.start(t);
  const proxy = await Proxy.to(server.port, { test: t });
  const ana = await ChatWindow.open(t, proxy.url, { name: "Ana" });
  proxy.cut();
  await ana.connection("reconnecting");
  await until("the page has asked over HTTP", () => ana.errors.filter((error) => error.startsWith("Failed to load resource")).length >= 2);
  assert.equal(await ana.page.getAttribute("#connection", "data-state"), "reconnecting");
  proxy.mend();
  await ana.connection("connected");
});
