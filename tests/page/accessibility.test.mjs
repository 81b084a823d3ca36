// Tests with axe-core over the states of the page, in both themes, on a phone and on a desktop: no violation of WCAG 2.2 AA.

import assert from "node:assert/strict";
import { test } from "node:test";

import axe from "axe-core";

import { ChatWindow, DESKTOP, PHONE } from "../lib/browser.mjs";
import { Member, numbered } from "../lib/member.mjs";
import { Proxy } from "../lib/proxy.mjs";
import { PapoServer } from "../lib/server.mjs";
import { until } from "../lib/wait.mjs";

const OPTIONS = {
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  rules: { "target-size": { enabled: true } },
  resultTypes: ["violations"],
};

/** Runs axe on a window, and fails with what it found. */
async function accessible(window, state) {
  if (!(await window.page.evaluate(() => "axe" in globalThis))) await window.page.evaluate(axe.source);
  const violations = await window.page.evaluate(async (options) => {
    const { violations } = await window.axe.run(document, options);
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target, any, all, none }) => `${target} (${[...any, ...all, ...none].map(({ message }) => message).join("; ")})`).join(", ")}`);
  }, OPTIONS);
  assert.deepEqual(violations, [], state);
}

/** How each state is reached from the one before it. */
const STATES = {
  "the dialog of the first visit": async ({ window }) => {
    await window.page.waitForSelector("#name-dialog[open]");
  },
  "a rejected name": async ({ window }) => {
    await window.page.fill("#name-input", "An\u2800a");
    await window.page.press("#name-input", "Enter");
    await window.until(() => document.getElementById("name-error").textContent.includes("U+2800"));
  },
  "an empty room": async ({ window }) => {
    await window.enter("Ana");
    await window.page.waitForSelector(".edge.empty");
  },
  "a conversation": async ({ window, bia, rui }) => {
    await bia.say("Oi! A pauta: https://example.org/pauta", "segunda linha do mesmo grupo");
    await rui.say("olá");
    await window.say("Obrigada: https://example.org/resposta");
    await window.sees("Obrigada: https://example.org/resposta", "sent");
    await window.sees("olá");
  },
  "somebody types": async ({ window, bia }) => {
    bia.socket.emit("typing");
    await window.until(() => document.getElementById("typing").textContent);
  },
  "the list of people": async ({ window }) => {
    await window.until(() => document.querySelectorAll("#people-list .mark").length === 1);
    if (await window.page.isVisible("#people-btn")) await window.page.click("#people-btn");
    await window.page.locator("#people-list").waitFor({ state: "visible" });
  },
  "the dialog of another name": async ({ window }) => {
    await window.page.click("#name-btn");
    await window.page.waitForSelector("#name-dialog[open]");
  },
  "a text near its limit": async ({ window }) => {
    await window.page.click("#name-cancel");
    await window.page.fill("#message-input", "x".repeat(3_950));
    await window.page.waitForSelector("#composer-hint.warn");
  },
  "a text beyond its limit": async ({ window }) => {
    await window.page.fill("#message-input", "x".repeat(4_010));
    await window.page.waitForSelector("#message-input[aria-invalid=true]");
  },
  "scrolled up, with new messages": async ({ window, bia }) => {
    await window.page.fill("#message-input", "");
    await bia.say(...numbered(60));
    await window.sees("m 60");
    await window.scrollTo(300);
    await window.page.waitForSelector("#newest-btn:not([hidden])");
    await bia.say("mais uma");
    await window.page.waitForSelector("#newest-btn.fresh");
  },
  "the first new message": async ({ window }) => {
    await window.page.click("#newest-btn");
    await window.page.waitForSelector(".marker");
  },
  "the same person in another window": async ({ window, proxy }) => {
    const other = await window.context.newPage();
    await other.goto(proxy.url);
    // The newest window has the notice, so this one is loaded again.
    await other.waitForSelector("#connection[data-state=connected]");
    await window.page.reload();
    await window.page.waitForSelector("#twin:not([hidden])");
    await other.close();
  },
  "cut off, with messages that wait": async ({ window, proxy }) => {
    proxy.cut();
    await window.connection("reconnecting");
    await window.say("espera, com https://example.org");
    await window.sees("espera, com https://example.org", "pending");
  },
  "without a network": async ({ window }) => {
    await window.context.setOffline(true);
    await window.connection("offline");
  },
  "a rejected message, after the room has begun anew": async ({ window, proxy, server }) => {
    await server.kill();
    await server.start("--max-message-length", "10");
    await window.context.setOffline(false);
    proxy.mend();
    await window.sees("espera, com https://example.org", "failed");
    await window.page.waitForSelector(".notice");
  },
  "a room that is full": async ({ window, server, proxy, bia, rui }) => {
    proxy.cut();
    await server.kill();
    await server.start("--max-connections", "1");
    await until("another member has the place", () => bia.socket.connected || rui.socket.connected);
    proxy.mend();
    await window.connection("rejected");
  },
};

for (const colorScheme of ["light", "dark"]) {
  for (const [size, viewport] of Object.entries({ phone: PHONE, desktop: DESKTOP })) {
    test(`axe finds nothing in any state, ${colorScheme}, ${size}`, async (t) => {
      const server = await PapoServer.start(t, "--message-burst", "1000");
      const proxy = await Proxy.to(server.port, { test: t });
      const [bia, rui] = [await Member.join(server.url, "Bia", { test: t }), await Member.join(server.url, "Вia", { test: t })];
      const window = await ChatWindow.open(t, proxy.url, { colorScheme, viewport, bypassCSP: true, reducedMotion: "reduce" });
      const place = { window, server, proxy, bia, rui };
      for (const [state, reach] of Object.entries(STATES)) {
        await reach(place);
        await accessible(window, `${state}, ${colorScheme}, ${size}`);
      }
    });
  }
}
