// Tests of the composer: input methods, and long texts.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { PapoServer } from "../lib/server.mjs";

/** Milliseconds that a key may take longer than in a textarea without the page's code; on a slow machine twice that textarea's time. */
const extra = (bare) => Math.max(50, 2 * bare);

/** Presses a key as an input method does; returns whether the page took it. */
function press(init) {
  const event = new KeyboardEvent("keydown", { bubbles: true, cancelable: true, key: "Enter", ...init });
  if (init.keyCode) Object.defineProperty(event, "keyCode", { value: init.keyCode });
  document.getElementById("message-input").dispatchEvent(event);
  return event.defaultPrevented;
}

test("Enter that ends a composition does not send", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  await ana.page.fill("#message-input", "にほん");
  const taken = [];
  // Chromium and Firefox say `isComposing`; Safari ends the composition first and leaves only the key code.
  for (const init of [{ isComposing: true, keyCode: 229 }, { isComposing: true }, { keyCode: 229 }]) taken.push(await ana.page.evaluate(press, init));
  assert.deepEqual(taken, [false, false, false]);
  assert.equal(await ana.page.inputValue("#message-input"), "にほん");
  assert.equal(await ana.page.evaluate(press, { keyCode: 13 }), true);
  await ana.sees("にほん", "sent");
  assert.deepEqual(await ana.texts(), ["にほん"]);
});

test("Enter after a composition sends the composed word", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const browser = await ana.context.newCDPSession(ana.page);
  await ana.page.focus("#message-input");
  await browser.send("Input.imeSetComposition", { text: "に", selectionStart: 1, selectionEnd: 1 });
  await browser.send("Input.dispatchKeyEvent", { type: "rawKeyDown", key: "Enter", code: "Enter", windowsVirtualKeyCode: 229 });
  await browser.send("Input.insertText", { text: "日" });
  assert.equal(await ana.page.inputValue("#message-input"), "日");
  await ana.page.press("#message-input", "Enter");
  await ana.sees("日", "sent");
  assert.deepEqual(await ana.texts(), ["日"]);
});

/** Pastes the text into the field; returns the milliseconds that a key takes after that: the least of several, because a machine may be busy. */
async function pasteAndType(window, text) {
  await window.page.press("#message-input", "Control+v");
  await window.until((length) => document.getElementById("message-input").value.length === length, text.length);
  return window.page.evaluate(async () => {
    const field = document.getElementById("message-input");
    const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    const times = [];
    for (let key = 0; key < 15; key += 1) {
      await frame();
      const begun = performance.now();
      document.execCommand("insertText", false, "x");
      void field.offsetHeight;
      await frame();
      times.push(performance.now() - begun);
    }
    return Math.min(...times);
  });
}

test("after 10,000 pasted lines typing is as fast as in a textarea", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const text = Array.from({ length: 10_000 }, (_, n) => `linha ${n} de um registro que alguém colou inteiro`).join("\n");
  await ana.page.evaluate((text) => {
    const source = document.body.appendChild(document.createElement("textarea"));
    source.value = text;
    source.focus();
    source.select();
    document.execCommand("copy");
    source.remove();
  }, text);
  const page = await pasteAndType(ana, text);
  await ana.page.evaluate(() => {
    // A textarea as high as the page's own, without the page's code.
    const input = document.getElementById("message-input");
    const bare = input.cloneNode();
    bare.value = "";
    bare.style.height = getComputedStyle(input).height;
    input.replaceWith(bare);
  });
  const bare = await pasteAndType(ana, text);
  t.diagnostic(`a key takes ${page.toFixed(1)} ms, in a bare textarea ${bare.toFixed(1)} ms`);
  assert.ok(page <= bare + extra(bare), `${page} ms, in a bare textarea ${bare} ms`);
});

test("a long text is not measured with each key", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const measured = (text) =>
    ana.page.evaluate((text) => {
      const field = document.getElementById("message-input");
      field.value = text;
      field.focus();
      let measured = 0;
      // Reading it lays out the whole text.
      Object.defineProperty(field, "scrollHeight", { configurable: true, get: () => (measured += 1) });
      for (const key of "xyz") document.execCommand("insertText", false, key);
      return measured;
    }, text);
  assert.deepEqual([await measured("um\ndois"), await measured("linha\n".repeat(20)), await measured("x".repeat(2_001))], [3, 0, 0]);
});

test("the field grows with its text and ends at its full height", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const height = async (text) => {
    await ana.page.fill("#message-input", text);
    return ana.page.evaluate(() => document.getElementById("message-input").offsetHeight);
  };
  const one = await height("um");
  const three = await height("um\ndois\ntrês");
  const many = [];
  for (const text of ["x\n".repeat(10), "x\n".repeat(11), "x\n".repeat(500), "palavra ".repeat(249), "palavra ".repeat(251), "i".repeat(2_100)]) many.push(await height(text));
  assert.ok(one < three && three < many[0], `${[one, three, ...many]}`);
  assert.equal(new Set(many).size, 1, `a full field has one height: ${many}`);
  assert.equal(await height("um"), one);
  assert.equal(await height(""), one);
});
