// Tests of safety: the page shows text as text, and runs no scripts but its own.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { PapoServer } from "../lib/server.mjs";

const HOSTILE = [
  `<img src=x onerror="document.body.dataset.hacked=1">`,
  `<script>document.body.dataset.hacked=1</script>`,
  `"><svg onload=document.body.dataset.hacked=1>`,
  "javascript:document.body.dataset.hacked=1",
  "&lt;b&gt; &amp; <b>",
];

test("markup in messages and names is shown as text", async (t) => {
  const server = await PapoServer.start(t);
  const name = "<b onclick=alert(1)>Eva";
  const eva = await ChatWindow.open(t, server.url, { name });
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  await ana.page.locator("#message-input").pressSequentially("x");
  await eva.page.locator("#message-input").pressSequentially("x");
  await ana.until((name) => document.getElementById("typing").textContent.startsWith(name), name);
  for (const text of HOSTILE) await eva.say(text);
  for (const window of [eva, ana]) {
    await window.sees(HOSTILE.at(-1));
    assert.deepEqual(await window.texts(), HOSTILE);
    assert.equal(await window.page.locator("#messages").locator("img, script, svg, b, a").count(), 0);
    assert.equal(await window.page.evaluate(() => document.body.dataset.hacked), undefined);
    assert.equal(await window.page.locator(".person-name", { hasText: name }).count(), 1);
  }
  assert.equal(await ana.page.locator(".author").first().textContent(), name);
});

test("stacked marks cover nothing but their own message", async (t) => {
  const server = await PapoServer.start(t);
  const marks = (count) => "Z" + Array.from({ length: count }, (_, n) => String.fromCodePoint(0x300 + (n % 0x30))).join("");
  const text = Array(8).fill(marks(120)).join(" ");
  const user = Array(4).fill(marks(60)).join(" ");
  const page = (packet) => {
    if (!packet.startsWith('42["history"')) return packet;
    const [event, history] = JSON.parse(packet.slice(2));
    const about = { sender: "b".repeat(24), user: "Bia", at: Date.now() };
    // A name like this can be in the log of an older server, or come from another program.
    const messages = [{ text: "em cima" }, { text, user, sender: "c".repeat(24) }, { text: "embaixo" }].map((message, offset) => ({ ...about, id: `m${offset}`, offset, ...message }));
    return `42${JSON.stringify([event, { ...history, messages }])}`;
  };
  const prepare = (browser) =>
    browser.routeWebSocket(/socket\.io/, (link) => {
      const real = link.connectToServer();
      real.onMessage((packet) => link.send(page(packet)));
    });
  const ana = await ChatWindow.open(t, server.url, { name: "Ana", prepare, reducedMotion: "reduce" });
  await ana.sees("embaixo");
  await ana.page.locator("#message-input").blur();
  const picture = async (selector) => {
    const clip = await ana.page.locator(selector).first().boundingBox();
    return (await ana.page.screenshot({ clip, animations: "disabled", caret: "hide" })).toString("base64");
  };
  const hide = (selector, hidden) => ana.page.locator(selector).first().evaluate((element, hidden) => (element.style.visibility = hidden ? "hidden" : ""), hidden);
  const marked = ".message[data-id=m1]";
  for (const [source, others] of [
    [`${marked} .text`, [".message[data-id=m0]", ".message[data-id=m2]", "#composer", `${marked} .author`, `${marked} time`]],
    [`${marked} .author`, [".message[data-id=m0]", ".message[data-id=m2]", `${marked} .text`]],
  ]) {
    for (const other of others) {
      const covered = await picture(other);
      await hide(source, true);
      const bare = await picture(other);
      await hide(source, false);
      assert.equal(covered, bare, `${source} covers ${other}`);
    }
  }
});

test("links are clickable and safe", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  await ana.say("veja https://example.org/a_(b)?x=1&y=2, http://exemplo.com.br. E não javascript:alert(1) nem ftp://x.org!");
  const links = ana.page.locator(".text a");
  await links.nth(1).waitFor();
  assert.deepEqual(await links.allTextContents(), ["https://example.org/a_(b)?x=1&y=2", "http://exemplo.com.br"]);
  for (const link of await links.all()) {
    assert.equal(await link.getAttribute("target"), "_blank");
    assert.equal(await link.getAttribute("rel"), "noopener noreferrer nofollow");
  }
});

test("the policy forbids inline and foreign code", async (t) => {
  const server = await PapoServer.start(t);
  const { headers } = await fetch(server.url);
  const policy = headers.get("content-security-policy") ?? "";
  assert.doesNotMatch(policy, /unsafe/);
  assert.match(policy, /default-src|script-src/);
  assert.equal(headers.get("cross-origin-opener-policy"), "same-origin");
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const violated = await ana.page.evaluate(async () => {
    const violated = [];
    document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => violated.push(effectiveDirective));
    const style = document.createElement("style");
    style.textContent = "body { display: none }";
    document.body.append(style);
    const end = Date.now() + 30_000;
    while (violated.length < 1 && Date.now() < end) await new Promise(requestAnimationFrame);
    return violated;
  });
  assert.deepEqual(violated, ["style-src-elem"]);
  // Text becomes code or markup nowhere: Trusted Types throw before the rest of the policy would block it.
  const thrown = await ana.page.evaluate(() => {
    const sinks = {
      script: () => (document.createElement("script").textContent = "document.body.dataset.inline = 1"),
      source: () => (document.createElement("script").src = "data:text/javascript,document.body.dataset.foreign=1"),
      handler: () => document.body.setAttribute("onclick", "document.body.dataset.handler = 1"),
      markup: () => (document.createElement("div").innerHTML = "<b>x</b>"),
      policy: () => trustedTypes.createPolicy("own", { createHTML: (text) => text }),
    };
    return Object.keys(sinks).filter((name) => {
      try {
        sinks[name]();
        return false;
      } catch (error) {
        return error instanceof TypeError;
      }
    });
  });
  assert.deepEqual(thrown, ["script", "source", "handler", "markup", "policy"]);
  const { inline, foreign, handler } = await ana.page.evaluate(() => ({ ...document.body.dataset }));
  assert.deepEqual([inline, foreign, handler], [undefined, undefined, undefined]);
  assert.notEqual(await ana.page.evaluate(() => getComputedStyle(document.body).display), "none");
});

test("the page may use no device of the browser", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const allowed = await ana.page.evaluate(() => ["camera", "microphone", "geolocation", "usb"].filter((feature) => document.featurePolicy.allowsFeature(feature)));
  assert.deepEqual(allowed, []);
});

test("the browser's console stays free of errors", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const bia = await ChatWindow.open(t, server.url, { name: "Bia", colorScheme: "dark" });
  await ana.say("uma mensagem\nlonga ".repeat(20));
  await bia.say("outra");
  await ana.sees("outra");
  await ana.page.click("#name-btn");
  await ana.page.click("#name-cancel");
  assert.deepEqual([...ana.errors, ...bia.errors], []);
});
