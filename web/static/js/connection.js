// The connection: one Socket.IO socket that reconnects by itself and reports its state.
//
// The page decides when to reconnect, not socket.io-client: after a rejection, when a server drains, when the browser is online again and
// when the server does not answer, each after a time of its own.

import { Liveness } from "./liveness.js";
import { messageFrom, messagesFrom } from "./message.js";
import { SOCKET_PATH } from "./place.js";
import { rejectionCode } from "./rejection.js";

const FIRST_DELAY = 500;
const LONGEST_DELAY = 10_000;
const CONNECT_TIMEOUT = 10_000;

export class Connection {
  #socket;
  #handlers;
  #liveness;
  #failures = 0;
  #attempts = 0;
  #isRejected = false;
  #closed = null;
  #timer;
  #enabled = false;

  /**
   * `auth` returns the current name, token and position for each connect. `handlers` are `state(kind, code)`, `history`, `message`,
   * `presence`, `typing`, `you`, and
   * - `ready()`, which resolves to "ready", or to "later" or "never" if the page cannot connect now;
   * - `rejected(code, reason)`, which returns `true` if something else than time leads to the next connection;
   * - `expiring()`: the access token expires soon.
   */
  constructor(auth, handlers) {
    this.#handlers = handlers;
    this.#socket = window.io({
      path: SOCKET_PATH,
      transports: ["websocket"],
      auth: (give) => give(auth()),
      autoConnect: false,
      reconnection: false,
      timeout: CONNECT_TIMEOUT,
    });
    this.#liveness = new Liveness({
      ask: (answered) => this.#socket.emit("check", answered),
      lost: () => this.renew(),
      isHidden: () => document.hidden,
    });
    this.#listen();
  }

  /** Connects, or reconnects, with the current `auth`. */
  renew() {
    this.#enabled = true;
    this.#attempts += 1;
    clearTimeout(this.#timer);
    this.#socket.disconnect();
    this.#open(this.#attempts);
  }

  /** Disconnects, until `renew` is called. */
  close() {
    this.#enabled = false;
    this.#attempts += 1;
    clearTimeout(this.#timer);
    this.#socket.disconnect();
  }

  async #open(attempt) {
    const answer = await this.#handlers.ready();
    if (attempt !== this.#attempts) return;
    if (answer === "ready") this.#socket.connect();
    else if (answer === "later") this.#backOff();
    else this.#enabled = false;
  }

  get connected() {
    return this.#socket.connected;
  }

  /** Sends an event and waits for its acknowledgement; rejects after `timeout` ms or when the connection is lost. */
  request(event, argument, timeout) {
    return this.#socket.timeout(timeout).emitWithAck(event, argument);
  }

  /** Requests a page of history, as `request` does. */
  async page(argument, timeout) {
    const answer = await this.request("history", argument, timeout);
    return { ...answer, messages: messagesFrom(answer.messages) };
  }

  /** Sends an event that may be lost. */
  signal(event) {
    if (this.connected) this.#socket.volatile.emit(event);
  }

  #listen() {
    const { state, history, message, presence, typing, you, expiring } = this.#handlers;
    this.#socket.on("history", (page) => {
      this.#failures = 0;
      this.#isRejected = false;
      this.#liveness.opened();
      history({ ...page, messages: messagesFrom(page.messages) });
      state("connected");
    });
    this.#socket.on("message", (text, about) => {
      const received = messageFrom({ ...about, text });
      if (received) message(received);
    });
    this.#socket.on("presence", presence);
    this.#socket.on("typing", typing);
    this.#socket.on("you", you);
    this.#socket.on("token_expiring", expiring);
    this.#socket.on("closed", (why) => (this.#closed = why));
    this.#socket.on("draining", (signal) => {
      state("draining");
      // Each client leaves at a random moment, so that they do not all reach the next server at once.
      this.#later(Math.random() * (signal?.after ?? 0));
    });
    this.#socket.on("disconnect", (reason) => {
      this.#liveness.closed();
      const closed = this.#closed;
      this.#closed = null;
      const isOwn = reason === "io client disconnect";
      if (closed?.code && !isOwn) return this.#rejected(closed);
      state("reconnecting");
      if (!isOwn) this.#backOff();
    });
    this.#socket.on("connect_error", ({ data }) => (data?.code ? this.#rejected(data) : this.#failed()));
    // Whatever comes from the server is a sign of life, its pings too.
    const manager = this.#socket.io;
    manager.on("open", () => manager.engine.on("packet", () => this.#liveness.heard()));
    window.addEventListener("online", () => this.#wake());
    document.addEventListener("visibilitychange", () => document.hidden || this.#wake());
  }

  /** The browser is online or the person is back: reconnects now, or checks whether the connection has survived. */
  #wake() {
    if (this.connected) this.#liveness.check();
    else if (this.#enabled) this.renew();
  }

  #rejected({ code, message }) {
    if (this.#handlers.rejected(code, message)) return;
    this.#handlers.state("rejected", code);
    this.#backOff();
  }

  /** No connection was opened. The page goes on trying, because whoever runs the server can allow it. */
  async #failed() {
    if (!this.#isRejected) this.#handlers.state("reconnecting");
    this.#backOff();
    const attempt = this.#attempts;
    const code = await rejectionCode();
    // The next attempt finds out for itself.
    if (attempt !== this.#attempts) return;
    this.#isRejected = code !== undefined;
    this.#handlers.state(code ? "rejected" : "reconnecting", code);
  }

  #backOff() {
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#failures);
    this.#failures += 1;
    this.#later(delay * (0.5 + Math.random()));
  }

  #later(delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.renew(), delay);
  }
}
