// Tests of a connection that looks open and is dead: the page asks whether the server answers, and leaves one that does not.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { Proxy } from "../lib/proxy.mjs";
import { PapoServer } from "../lib/server.mjs";
import { until } from "../lib/wait.mjs";

const { Liveness } = await import("../../web/static/js/liveness.js");

/** A page that notices a dead connection later than this has failed. */
const LEFT_WITHIN_MS = 15_000;
/** The same in a browser, on a machine that may be slow. Socket.IO's own heartbeat notices it after 45 s. */
const LEFT_IN_BROWSER_WITHIN_MS = 30_000;
const HOUR = 3_600_000;

/** A Liveness on a mocked clock: what it asked, and how often it lost the connection. */
function watched(t, { isHidden = false } = {}) {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const state = { asked: [], lost: 0, isHidden, clock: 0 };
  t.mock.method(Date, "now", () => state.clock);
  const liveness = new Liveness({ ask: (answered) => state.asked.push(answered), lost: () => (state.lost += 1), isHidden: () => state.isHidden });
  liveness.opened();
  /** Lets time pass in small steps, so that timers that follow from others run in order. */
  const pass = (ms) => {
    for (let passed = 0; passed < ms; passed += 100) {
      state.clock += 100;
      t.mock.timers.tick(100);
    }
  };
  return { liveness, state, pass };
}

test("a silent server is left within 15 seconds", (t) => {
  const { state, pass } = watched(t);
  pass(LEFT_WITHIN_MS - 500);
  assert.deepEqual([state.asked.length, state.lost], [1, 1]);
  pass(HOUR / 60);
  assert.deepEqual([state.asked.length, state.lost], [1, 1], "a lost connection is not asked");
});

test("a server that answers is not left", (t) => {
  const { liveness, state, pass } = watched(t);
  for (let second = 0; second < 120; second += 1) {
    pass(1_000);
    if (!state.asked.length) continue;
    liveness.heard();
    state.asked.shift()();
  }
  assert.equal(state.lost, 0);
});

test("a server that sends often is not asked", (t) => {
  const { liveness, state, pass } = watched(t);
  for (let second = 0; second < 60; second += 1) {
    pass(1_000);
    liveness.heard();
  }
  assert.deepEqual([state.asked.length, state.lost], [0, 0]);
});

test("packets prolong a question, and do not answer it", (t) => {
  const { liveness, state, pass } = watched(t);
  liveness.check();
  pass(4_000);
  liveness.heard();
  pass(4_000);
  assert.equal(state.lost, 0, "a slow connection still delivers");
  pass(1_500);
  assert.equal(state.lost, 1);
});

test("a jump of the clock asks at once", (t) => {
  const { liveness, state, pass } = watched(t);
  for (const jump of [2 * HOUR, -2 * HOUR]) {
    pass(2_000);
    liveness.heard();
    assert.equal(state.asked.length, 0);
    // Like a computer that sleeps: the clock goes on, and the timers do not.
    state.clock += jump;
    pass(1_000);
    assert.equal(state.asked.length, 1, `${jump} ms`);
    state.asked.shift()();
  }
  assert.equal(state.lost, 0);
});

test("a hidden window asks when it is visible again", (t) => {
  const { liveness, state, pass } = watched(t, { isHidden: true });
  pass(60_000);
  assert.equal(state.asked.length, 0);
  state.isHidden = false;
  liveness.check();
  liveness.check();
  assert.equal(state.asked.length, 1, "one question at a time");
  pass(5_500);
  assert.equal(state.lost, 1);
});

test("a closed connection is not asked", (t) => {
  const { liveness, state, pass } = watched(t);
  liveness.check();
  liveness.closed();
  liveness.check();
  liveness.heard();
  pass(60_000);
  assert.deepEqual([state.asked.length, state.lost], [1, 0]);
});

/** Milliseconds until the page no longer says that it is connected. */
async function leaving(window) {
  const begun = performance.now();
  await window.until(() => document.getElementById("connection").dataset.state !== "connected");
  return performance.now() - begun;
}

test("a frozen server is left within 15 seconds", async (t) => {
  const server = await PapoServer.start(t);
  const ana = await ChatWindow.open(t, server.url, { name: "Ana" });
  await ana.say("antes");
  await ana.sees("antes", "sent");
  process.kill(server.pid, "SIGSTOP");
  const took = await leaving(ana);
  assert.ok(took <= LEFT_IN_BROWSER_WITHIN_MS, `after ${took} ms`);
  await ana.say("enquanto congelado");
  process.kill(server.pid, "SIGCONT");
  await ana.sees("enquanto congelado", "sent");
  assert.deepEqual(await ana.texts(), ["antes", "enquanto congelado"]);
});

/** What happens in the browser when a laptop wakes up. */
const WAKES = {
  "visible again": () => document.dispatchEvent(new Event("visibilitychange")),
  "online again": () => window.dispatchEvent(new Event("online")),
  "the clock has jumped": () => {
    const { now } = Date;
    Date.now = () => now() + 20_000;
  },
};

for (const [what, wake] of Object.entries(WAKES)) {
  test(`a woken page gets its missing messages: ${what}`, async (t) => {
    const server = await PapoServer.start(t);
    const proxy = await Proxy.to(server.port, { test: t });
    const sent = [];
    const ana = await ChatWindow.open(t, proxy.url, {
      name: "Ana",
      prepare: (page) => page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => sent.push(String(payload)))),
    });
    const bia = await ChatWindow.open(t, server.url, { name: "Bia" });
    await bia.say("antes");
    await ana.sees("antes");
    // The network has forgotten the connection while the laptop slept.
    proxy.silence();
    await bia.say("perdida");
    await bia.sees("perdida", "sent");
    const asked = sent.length;
    await ana.page.evaluate(wake);
    await until("the page asks", () => sent.slice(asked).some((packet) => /^42\d+\["check"\]$/.test(packet)), 4);
    const took = await leaving(ana);
    assert.ok(took <= LEFT_IN_BROWSER_WITHIN_MS, `after ${took} ms`);
    proxy.speak();
    await ana.sees("perdida");
    assert.deepEqual(await ana.texts(), ["antes", "perdida"]);
  });
}

test("a connection that has survived is kept", async (t) => {
  const server = await PapoServer.start(t);
  const sockets = [];
  const ana = await ChatWindow.open(t, server.url, { name: "Ana", prepare: (page) => page.on("websocket", (socket) => sockets.push(socket)) });
  const answers = [];
  sockets[0].on("framereceived", ({ payload }) => answers.push(String(payload)));
  for (const wake of Object.values(WAKES)) {
    const before = answers.length;
    await ana.page.evaluate(wake);
    await until("the check is answered", () => answers.slice(before).some((packet) => /^43\d+\[\{"ok":true\}\]$/.test(packet)));
  }
  assert.equal(sockets.length, 1);
  assert.equal(await ana.page.getAttribute("#connection", "data-state"), "connected");
});
