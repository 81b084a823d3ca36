// Tests of the composer: input methods, and long texts.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { PapoServer } from "../lib/server.mjs";

/** Milliseconds that a key may take longer than in a textarea without the page's code. */
const EXTRA_MS = 50;

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

test("after 10,000 pasted lines typing is as fast as in a textarea", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  const { bare, page } = await ana.page.evaluate(async () => {
    const text = Array.from({ length: 10_000 }, (_, n) => `linha ${n} de um registro que alguém colou inteiro`).join("\n");
    const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    const input = document.getElementById("message-input");
    const bareInput = input.cloneNode();
    bareInput.value = "";
    bareInput.removeAttribute("id");
    const measure = async (field) => {
      field.focus();
      // Chromium inserts a text line by line, in minutes. Only the keys after it are measured.
      field.value = text;
      field.dispatchEvent(new InputEvent("input", { bubbles: true, inputType: "insertFromPaste" }));
      await frame();
      const times = [];
      for (let key = 0; key < 15; key += 1) {
        const begun = performance.now();
        document.execCommand("insertText", false, "x");
        void field.offsetHeight;
        await frame();
        times.push(performance.now() - begun);
      }
      return times.toSorted((a, b) => a - b)[7];
    };
    const page = await measure(input);
    const { height } = getComputedStyle(input);
    input.replaceWith(bareInput);
    bareInput.style.height = height;
    return { page, bare: await measure(bareInput) };
  });
  t.diagnostic(`a key takes ${page.toFixed(1)} ms, in a bare textarea ${bare.toFixed(1)} ms`);
  assert.ok(page <= bare + EXTRA_MS, `${page} ms, in a bare textarea ${bare} ms`);
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
