// Liveness: finds out whether the server still answers. A connection can look open long after it has died: a laptop has slept, a network has
// changed, or a server is frozen. Socket.IO's own heartbeat notices that after 45 s.
//
// The page asks at once when there is a reason to doubt the connection, and, while the window is visible, after a silence. It leaves a frozen
// server within SILENCE + ANSWER_WITHIN. Pure, except for its timers and the clock.

/** A visible window that hears nothing for so long asks, in milliseconds. */
const SILENCE = 7_000;
/** A connection on which nothing is heard for so long after a question is lost. */
const ANSWER_WITHIN = 5_000;
const TICK = 1_000;
/** If so much time passes between two ticks, the computer has slept, or the browser has stopped the window. */
const JUMP = 5_000;

export class Liveness {
  #ask;
  #lost;
  #isHidden;
  #isOpen = false;
  #isAsking = false;
  #silence;
  #answer;
  #ticks;
  #lastTick;

  /** `ask(answered)` asks the server and calls `answered()`; `lost()` is called when there is no answer; `isHidden()` is the window's state. */
  constructor({ ask, lost, isHidden }) {
    this.#ask = ask;
    this.#lost = lost;
    this.#isHidden = isHidden;
  }

  /** A connection is open. */
  opened() {
    this.closed();
    this.#isOpen = true;
    this.#lastTick = Date.now();
    this.#ticks = setInterval(() => this.#tick(), TICK);
    this.heard();
  }

  closed() {
    this.#isOpen = false;
    this.#isAsking = false;
    clearTimeout(this.#silence);
    clearTimeout(this.#answer);
    clearInterval(this.#ticks);
  }

  /** Something has come from the server. It may have been on its way for long, so it prolongs a question and does not answer it. */
  heard() {
    if (!this.#isOpen) return;
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#onSilence(), SILENCE);
    if (this.#isAsking) this.#wait();
  }

  /** Asks the server now, unless a question is open. */
  check() {
    if (!this.#isOpen || this.#isAsking) return;
    this.#isAsking = true;
    this.#wait();
    this.#ask(() => this.#answered());
  }

  #answered() {
    this.#isAsking = false;
    clearTimeout(this.#answer);
  }

  #wait() {
    clearTimeout(this.#answer);
    this.#answer = setTimeout(() => {
      this.closed();
      this.#lost();
    }, ANSWER_WITHIN);
  }

  /** A hidden window does not ask: it would keep a computer awake, and the window asks when it becomes visible. */
  #onSilence() {
    if (this.#isHidden()) this.heard();
    else this.check();
  }

  /** Timers stop while a computer sleeps, but the clock goes on. */
  #tick() {
    const now = Date.now();
    const hasJumped = Math.abs(now - this.#lastTick) > JUMP;
    this.#lastTick = now;
    if (hasJumped) this.check();
  }
}
