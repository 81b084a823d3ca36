// Firefox as it is released, and its windows, which use the chat page as people do: with keys and a pointer.
//
// It is driven over WebDriver BiDi, which it speaks without another program: Playwright's own interface needs a Firefox of Playwright's.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import WebSocket from "ws";

import { until } from "./wait.mjs";

const PROGRAM = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
/** As the `skip` of a test that needs Firefox: why it cannot run here, or `false`. */
export const withoutFirefox = existsSync(PROGRAM) ? false : `no Firefox: ${PROGRAM} does not exist; install firefox-esr or name another program in FIREFOX`;

const PREFERENCES = {
  "app.update.enabled": false,
  "browser.shell.checkDefaultBrowser": false,
  "browser.startup.page": 0,
  "datareporting.policy.dataSubmissionEnabled": false,
  "intl.accept_languages": "pt-BR, pt",
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "services.settings.server": "data:,",
  "toolkit.telemetry.server": "data:,",
};
/** Limit for a command, such as loading a page. It is long, because a page may take seconds on a busy machine. */
const LIMIT_MS = 60_000;
/** Keys by their names (WebDriver, 17.4.2). */
const KEYS = { Enter: "\uE007", Backspace: "\uE003", Control: "\uE009" };
const VIEWPORT = { width: 1280, height: 800 };

export class Firefox {
  #child;
  #profile;
  #socket;
  #last = 0;
  #waiting = new Map();
  #windows = new Map();

  /** Starts Firefox with these additional preferences. */
  static async launch(preferences = {}) {
    const firefox = new Firefox();
    await firefox.#start({ ...PREFERENCES, ...preferences });
    return firefox;
  }

  async #start(preferences) {
    this.#profile = await mkdtemp(join(tmpdir(), "papo-firefox-"));
    const lines = Object.entries(preferences).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`);
    await writeFile(join(this.#profile, "user.js"), lines.join(""));
    const args = ["--headless", "--no-remote", "--profile", this.#profile, "--remote-debugging-port", "0"];
    this.#child = spawn(PROGRAM, args, { env: { ...process.env, MOZ_CRASHREPORTER_DISABLE: "1" }, stdio: ["ignore", "ignore", "pipe"] });
    let output = "";
    this.#child.stderr.on("data", (text) => (output += text));
    const address = await until("Firefox listens", () => {
      if (this.#child.exitCode !== null) return "ended";
      return /WebDriver BiDi listening on (ws:\S+)/.exec(output)?.[1];
    });
    if (address === "ended") throw new Error(`Firefox ended:\n${output}`);
    this.#socket = new WebSocket(`${address}/session`);
    this.#socket.on("message", (data) => this.#onMessage(JSON.parse(data)));
    await once(this.#socket, "open");
    await this.command("session.new", { capabilities: {} });
    await this.command("session.subscribe", { events: ["log.entryAdded"] });
  }

  /** Sends a command (WebDriver BiDi, 3.4); resolves to its result. */
  command(method, params) {
    this.#last += 1;
    const id = this.#last;
    this.#socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve, reject) => {
      const limit = setTimeout(() => reject(new Error(`${method}: no answer within ${LIMIT_MS} ms`)), LIMIT_MS);
      this.#waiting.set(id, { resolve, reject, method, limit });
    });
  }

  #onMessage({ id, type, method, params, result, error, message }) {
    if (type === "event") {
      if (method === "log.entryAdded" && params.level === "error") this.#windows.get(params.source.context)?.errors.push(params.text);
      return;
    }
    const { resolve, reject, method: asked, limit } = this.#waiting.get(id);
    this.#waiting.delete(id);
    clearTimeout(limit);
    if (type === "success") resolve(result);
    else reject(new Error(`${asked}: ${error}: ${message}`));
  }

  /** Opens `url` for the test `t`. The window shares no storage with others. With a `name`, it waits until the person is in the room. */
  async open(t, url, { name } = {}) {
    const { userContext } = await this.command("browser.createUserContext", {});
    // A test that closes its own Firefox closes the windows with it.
    t.after(() => this.#socket.readyState === WebSocket.OPEN && this.command("browser.removeUserContext", { userContext }));
    const { context } = await this.command("browsingContext.create", { type: "window", userContext });
    const window = new FirefoxWindow((method, params) => this.command(method, { context, ...params }), context);
    this.#windows.set(context, window);
    await window.command("browsingContext.setViewport", { viewport: VIEWPORT });
    await window.command("browsingContext.navigate", { url, wait: "complete" });
    if (name) await window.enter(name);
    return window;
  }

  async close() {
    this.#socket.close();
    const ended = once(this.#child, "exit");
    if (this.#child.exitCode === null && this.#child.kill()) await ended;
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

class FirefoxWindow {
  /** Errors in the browser's console. */
  errors = [];

  constructor(command, context) {
    Object.assign(this, { command, context });
  }

  /** The result of `use(...values)` in the page, as JSON. The page's policy does not apply to it. */
  async evaluate(use, ...values) {
    const functionDeclaration = `async (values) => JSON.stringify((await (${use})(...JSON.parse(values))) ?? null)`;
    const args = { functionDeclaration, awaitPromise: true, arguments: [{ type: "string", value: JSON.stringify(values) }] };
    const answer = await this.command("script.callFunction", { ...args, target: { context: this.context } });
    if (answer.type === "exception") throw new Error(answer.exceptionDetails.text);
    return JSON.parse(answer.result.value);
  }

  /** Waits until `condition(...values)`, evaluated in the page, is true. */
  until(condition, ...values) {
    return until(`${condition} ${values}`, () => this.evaluate(condition, ...values));
  }

  /** Waits for an element that a person can see. */
  visible(selector) {
    return this.until((selector) => document.querySelector(selector)?.checkVisibility({ visibilityProperty: true }), selector);
  }

  hidden(selector) {
    return this.until((selector) => !document.querySelector(selector)?.checkVisibility({ visibilityProperty: true }), selector);
  }

  /** The texts of all elements, from top to bottom. */
  contents(selector) {
    return this.evaluate((selector) => [...document.querySelectorAll(selector)].map((element) => element.textContent), selector);
  }

  /** Waits until the page holds these words. */
  reads(words) {
    return this.until((words) => document.body.textContent.includes(words), words);
  }

  async click(selector) {
    await this.visible(selector);
    const { x, y } = await this.evaluate((selector) => {
      const box = document.querySelector(selector).getBoundingClientRect();
      return { x: Math.round(box.x + box.width / 2), y: Math.round(box.y + box.height / 2) };
    }, selector);
    const actions = [{ type: "pointerMove", x, y }, { type: "pointerDown", button: 0 }, { type: "pointerUp", button: 0 }];
    await this.command("input.performActions", { actions: [{ type: "pointer", id: "mouse", actions }] });
  }

  /** Presses keys one after the other: characters, or names of KEYS. */
  async press(...keys) {
    const actions = keys.flatMap((key) => ["keyDown", "keyUp"].map((type) => ({ type, value: KEYS[key] ?? key })));
    await this.command("input.performActions", { actions: [{ type: "key", id: "keyboard", actions }] });
  }

  /** Replaces what a field holds. */
  async fill(selector, text) {
    await this.click(selector);
    await this.evaluate((selector) => document.querySelector(selector).select(), selector);
    await this.press("Backspace", ...text);
  }

  async enter(name) {
    await this.fill("#name-input", name);
    await this.press("Enter");
    await this.connection("connected");
  }

  connection(state) {
    return this.visible(`#connection[data-state="${state}"]`);
  }

  async say(text) {
    await this.fill("#message-input", text);
    await this.press("Enter");
  }

  /** Waits for a message with exactly this text, in this state if given. */
  sees(text, state) {
    const find = (text, state) => [...document.querySelectorAll(".message")].some((message) => message.querySelector(".text").textContent === text && (!state || message.dataset.state === state));
    return this.until(find, text, state);
  }

  /** The texts in the log, from top to bottom. */
  texts() {
    return this.contents("#messages .text");
  }

  /** Scrolls up until the page shows the beginning of the conversation. */
  scrollToBeginning() {
    return this.until(() => {
      document.getElementById("messages").scrollTo({ top: 0, behavior: "instant" });
      return document.querySelector(".edge.beginning");
    });
  }

  async reload() {
    await this.command("browsingContext.reload", { wait: "complete" });
  }
}
