// Chromium, and browser windows that use the chat page as people do.

import { mkdirSync } from "node:fs";
import { after } from "node:test";

import { chromium } from "playwright-core";

import { until } from "./wait.mjs";

const ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
/** Limit for an action on a page. It is long, because a page may take seconds on a busy machine. */
const LIMIT_MS = 60_000;
export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 360, height: 740 };

/** The folder for screenshots. */
const screenshots = process.env.PAPO_SCREENSHOTS ?? "screenshots";

/** Starts a browser with these additional arguments. */
export const launch = (...more) => chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: [...ARGUMENTS, ...more] });

let shared;
/** The browser that all tests of a file share. */
function ours() {
  shared ??= launch();
  return shared;
}
after(async () => (await shared)?.close());

export class ChatWindow {
  /** Errors in the browser's console. */
  errors = [];

  /**
   * Opens `url` for the test `t`. The window shares no storage with others, unless they have the same `context`. With a `name`, it
   * answers the dialog and waits until the person is in the room. Without a `browser`, it uses the file's own. `prepare(page)` is called
   * before the page is loaded.
   */
  static async open(t, url, { name, context, browser, prepare, ...options } = {}) {
    const window = new ChatWindow();
    window.context = context ?? (await (await (browser ?? ours())).newContext({ viewport: DESKTOP, locale: "pt-BR", timezoneId: "America/Sao_Paulo", ...options }));
    t.after(() => window.context.close());
    window.page = await window.context.newPage();
    window.page.setDefaultTimeout(LIMIT_MS);
    window.page.on("console", (message) => message.type() === "error" && window.errors.push(message.text()));
    window.page.on("pageerror", (error) => window.errors.push(String(error)));
    await prepare?.(window.page);
    await window.page.goto(url);
    if (name) await window.enter(name);
    return window;
  }

  // As the windows of Firefox have them.
  click = (selector) => this.page.click(selector);
  fill = (selector, text) => this.page.fill(selector, text);
  visible = (selector) => this.page.waitForSelector(selector);
  hidden = (selector) => this.page.waitForSelector(selector, { state: "hidden" });
  contents = (selector) => this.page.locator(selector).allTextContents();
  evaluate = (use, value) => this.page.evaluate(use, value);
  press = (key) => this.page.keyboard.press(key);
  reads = (words) => this.until((words) => document.body.textContent.includes(words), words);
  reload = () => this.page.reload();

  async enter(name) {
    await this.page.fill("#name-input", name);
    await this.page.press("#name-input", "Enter");
    await this.connection("connected");
  }

  /** Waits for a state of the connection. */
  connection(state) {
    return this.page.waitForSelector(`#connection[data-state="${state}"]`);
  }

  /** Writes a message and sends it. */
  async say(text) {
    await this.page.fill("#message-input", text);
    await this.page.press("#message-input", "Enter");
  }

  /** Waits for a message with exactly this text, in this state if given. */
  async sees(text, state) {
    const message = this.message(text, state);
    await message.first().waitFor({ state: "attached" });
    return message;
  }

  message(text, state) {
    const selector = state ? `.message[data-state="${state}"]` : ".message";
    return this.page.locator(selector).filter({ has: this.page.locator(".text", { hasText: exactly(text) }) });
  }

  /** The texts in the log, from top to bottom. */
  texts() {
    return this.page.locator("#messages .text").allTextContents();
  }

  /** Waits until `condition(argument)`, evaluated in the page, is true. */
  until(condition, argument) {
    return this.page.waitForFunction(condition, argument, { polling: 20 });
  }

  /** Makes the page believe that the person has opened another tab: headless windows are always visible. */
  async setHidden(hidden) {
    await this.page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  }

  async scrollTo(top) {
    await this.page.evaluate((top) => document.getElementById("messages").scrollTo({ top, behavior: "instant" }), top);
  }

  /** Scrolls up until the page shows the beginning of the conversation. */
  async scrollToBeginning() {
    await until("the page shows the beginning of the conversation", async () => {
      await this.scrollTo(0);
      return this.page.isVisible(".edge.beginning");
    });
  }

  async screenshot(name) {
    mkdirSync(screenshots, { recursive: true });
    await this.page.screenshot({ path: `${screenshots}/${name}.png`, animations: "disabled" });
  }
}

function exactly(text) {
  return new RegExp(`^${text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`);
}
