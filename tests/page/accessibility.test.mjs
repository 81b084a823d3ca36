// Tests with axe-core over the states of the page, in both themes, on a phone and on a desktop: no violation of WCAG 2.2 AA.

import { test } from "node:test";

import { ChatWindow, DESKTOP, PHONE } from "../lib/browser.mjs";
import { Member, numbered } from "../lib/member.mjs";
import { Proxy } from "../lib/proxy.mjs";
import { PapoServer } from "../lib/server.mjs";
import { until } from "../lib/wait.mjs";
import { accessible } from "./axe.mjs";

/** A name for each reason for which the server rejects one, and words of the reason. */
const REJECTED_NAMES = {
  "\u0085": "ao menos um caractere visível",
  "A\u0007na": "o caractere de controle U+0007",
  "An\u2800a": "U+2800, que é invisível",
  "An\ue000a": "U+E000, que não tem significado",
  "An\u200da": "U+200D entre letras",
  "\u0301Ana": "U+0301, que é um sinal combinante",
  "q\u0301\u0302\u0303": "sinais combinantes seguidos",
  ["A".repeat(50)]: "No máximo 40 caracteres",
};

/** Messages in which the layout or the colours differ from others. */
const MESSAGES = ["segunda linha do mesmo grupo", "W".repeat(300), `https://example.org/${"a/".repeat(80)}`, `${"Z" + "\u0301".repeat(120)} `.repeat(4)];

/** How each state is reached from the one before it. */
const STATES = {
  "the dialog of the first visit": async ({ window }) => {
    await window.page.waitForSelector("#name-dialog[open]");
  },
  "the first connection": async ({ window, proxy }) => {
    proxy.hold();
    await window.page.fill("#name-input", "Ana");
    await window.page.press("#name-input", "Enter");
    await window.connection("connecting");
  },
  "an empty room": async ({ window, proxy }) => {
    proxy.release();
    await window.connection("connected");
    await window.page.waitForSelector(".edge.empty");
  },
  "the dialog of another name": async ({ window }) => {
    await window.page.click("#name-btn");
    await window.page.waitForSelector("#name-dialog[open]");
  },
  ...Object.fromEntries(Object.entries(REJECTED_NAMES).map(([name, words]) => [`a name that is rejected: ${words}`, (place) => rejects(place, name, words)])),
  "a conversation": async ({ window, bia, rui }) => {
    await window.enter("Ana");
    await bia.say("Oi! A pauta: https://example.org/pauta", ...MESSAGES);
    await rui.say("olá");
    await window.sees("olá");
    await window.say("Obrigada: https://example.org/resposta");
    await window.sees("Obrigada: https://example.org/resposta", "sent");
  },
  "a message on its way": async ({ window, proxy }) => {
    proxy.hold();
    await window.say("já chegou?");
    await window.sees("já chegou?", "pending");
  },
  "somebody types": async ({ window, proxy, bia }) => {
    proxy.release();
    await window.sees("já chegou?", "sent");
    bia.socket.emit("typing");
    await window.until(() => document.getElementById("typing").textContent);
  },
  "the list of people": async ({ window }) => {
    await window.until(() => document.querySelectorAll("#people-list .mark").length === 1);
    if (await window.page.isVisible("#people-btn")) await window.page.click("#people-btn");
    await window.page.locator("#people-list").waitFor({ state: "visible" });
  },
  "a text near its limit": async ({ window }) => {
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
  "older messages on their way": async ({ window, proxy }) => {
    await window.sees("mais uma");
    proxy.hold();
    await window.scrollTo(0);
    await window.page.waitForSelector(".edge.loading");
  },
  "the beginning of the conversation": async ({ window, proxy }) => {
    proxy.release();
    await window.scrollToBeginning();
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
    await server.start("--max-message-length", "10", "--drain-period", "60");
    await window.context.setOffline(false);
    proxy.mend();
    await window.sees("espera, com https://example.org", "failed");
    await window.page.waitForSelector(".notice");
  },
  "a server that drains": async ({ window, server }) => {
    // The page leaves after a random part of the period.
    await window.page.evaluate(() => (Math.random = () => 0.9));
    process.kill(server.pid, "SIGTERM");
    await window.connection("draining");
  },
  "a rejected host": async ({ window, server }) => {
    await server.kill();
    await answers(window, 421);
    await rejected(window, "O servidor não atende pelo endereço");
  },
  "a rejected origin": async ({ window }) => {
    await answers(window, 403);
    await rejected(window, "O servidor não aceita conexões da origem");
  },
  "a room that is full": async ({ window, server, proxy, bia, rui }) => {
    await window.page.unroute("**/socket.io/**");
    proxy.cut();
    await server.start("--max-connections", "1");
    await until("another member has the place", () => bia.socket.connected || rui.socket.connected);
    proxy.mend();
    await rejected(window, "A sala está cheia");
  },
  "an address with too many connections": async ({ window, server, proxy, bia, rui }) => {
    proxy.cut();
    await server.kill();
    await server.start("--address-connections", "1");
    await until("another member has the place", () => bia.socket.connected || rui.socket.connected);
    proxy.mend();
    await rejected(window, "Há conexões demais do seu endereço de rede");
  },
};

/** Enters a name, and waits for the reason for which it is rejected. */
async function rejects({ window }, name, words) {
  await window.page.fill("#name-input", name);
  await window.page.press("#name-input", "Enter");
  await window.until((words) => document.getElementById("name-error").textContent.includes(words), words);
}

/** Answers the page's requests over HTTP with a status, as a server that rejects the host (421) or the origin (403) does. */
async function answers(window, status) {
  await window.page.unroute("**/socket.io/**");
  await window.page.route("**/socket.io/**", (route) => route.fulfill({ status }));
}

/** Waits until the page says why the server rejects its connections. */
async function rejected(window, words) {
  await window.until((words) => {
    const { dataset, textContent } = document.getElementById("connection");
    return dataset.state === "rejected" && textContent.startsWith(words);
  }, words);
}

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
