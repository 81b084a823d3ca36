// The outbox: the messages that this person has written and the room has not shown yet. Pure, except for its storage and timer.
//
// One message is sent at a time, so that retries keep the order. A retry has the same id, so the room shows the message once. The
// outbox is kept in the window's storage and survives a reload.

import { timeFrom } from "./message.js";

/** Rejections after which the page sends the message again: it was not stored, or the server does not know whether it was. */
const RETRY = new Set(["rate_limited", "draining", "unavailable", "timeout"]);
const STATES = new Set(["pending", "sent", "failed"]);
const FIRST_RETRY = 500;
const LONGEST_RETRY = 10_000;
/** Maximum of tries, about half a minute in total; then the person decides. After `rate_limited` the number of tries is not limited. */
const MOST_TRIES = 7;

export class Outbox {
  /** { id, text, at, state: "pending" | "sent" | "failed", code?, offset?, epoch? }, in the order in which they were written. */
  entries;
  #store;
  #send;
  #changed;
  #open = false;
  #busy = false;
  #tries = 0;
  #timer;

  /** `send(id, text)` resolves to the acknowledgement and rejects if there was none; `changed()` is called after every change. */
  constructor({ store, send, changed }) {
    this.entries = entriesFrom(store.get());
    this.#store = store;
    this.#send = send;
    this.#changed = changed;
  }

  add(id, text) {
    this.entries.push({ id, text, at: Date.now(), state: "pending" });
    this.#update();
  }

  retry(id) {
    const entry = this.#find(id);
    if (entry) Object.assign(entry, { state: "pending", code: undefined });
    this.#update();
  }

  discard(id) {
    this.entries = this.entries.filter((entry) => entry.id !== id);
    this.#update();
  }

  /** Discards all messages: somebody else is here now. */
  clear() {
    if (this.entries.length === 0) return;
    this.entries = [];
    this.#update();
  }

  /** Sets whether messages can be sent: the connection carries them, and the person may write. */
  open(open) {
    this.#open = open;
    this.#tries = 0;
    clearTimeout(this.#timer);
    this.#update();
  }

  /** Removes the messages that the room has shown, and those acknowledged up to `newest`, which the timeline may not have loaded. */
  settle(ids, { epoch, newest }) {
    const shown = (entry) => entry.state === "sent" && (entry.epoch !== epoch || entry.offset <= newest);
    const kept = this.entries.filter((entry) => !ids.has(entry.id) && !shown(entry));
    if (kept.length === this.entries.length) return;
    this.entries = kept;
    this.#update();
  }

  #find(id) {
    return this.entries.find((entry) => entry.id === id);
  }

  #update() {
    this.#store.set(this.entries.length ? this.entries : null);
    this.#changed();
    this.#pump();
  }

  async #pump() {
    const entry = this.entries.find(({ state }) => state === "pending");
    if (!entry || !this.#open || this.#busy) return;
    this.#busy = true;
    clearTimeout(this.#timer);
    // Without an answer the page does not know whether the message is stored, as after the server's own `timeout`.
    const answer = await this.#send(entry.id, entry.text).catch(() => ({ ok: false, code: "timeout" }));
    this.#busy = false;
    this.#take(entry, answer);
  }

  #take(entry, { ok, code, offset, epoch }) {
    if (ok) {
      Object.assign(entry, { state: "sent", offset, epoch });
    } else if (this.#open && RETRY.has(code) && (code === "rate_limited" || this.#tries < MOST_TRIES)) {
      const delay = Math.min(LONGEST_RETRY, FIRST_RETRY * 2 ** this.#tries);
      this.#tries += 1;
      this.#timer = setTimeout(() => this.#pump(), delay);
      return;
    } else if (this.#open || !RETRY.has(code)) {
      Object.assign(entry, { state: "failed", code });
    }
    this.#tries = 0;
    this.#update();
  }
}

/** The stored messages that can be sent. Anybody with the browser can have written them. */
function entriesFrom(stored) {
  const isWhole = (entry) => typeof entry?.id === "string" && typeof entry.text === "string" && STATES.has(entry.state);
  const list = Array.isArray(stored) ? stored.filter(isWhole) : [];
  return list.map((entry) => ({ ...entry, at: timeFrom(entry.at) ?? Date.now() }));
}
