// The connection: one Socket.IO socket that comes back by itself, and says in which state it is.
//
// The waiting is ours, not socket.io-client's: a refusal, a server that drains and a browser that is online again all
// end in a reconnect, and each has its own moment.

const FIRST_DELAY = 500;
const LONGEST_DELAY = 10_000;
const CONNECT_TIMEOUT = 10_000;

export class Connection {
  #socket;
  #handlers;
  #failures = 0;
  #timer;
  #wanted = false;

  /**
   * `auth` gives the newest name, token and position each time; `handlers` are `state(kind, code)`, `history`,
   * `message`, `presence` and `typing`.
   */
  constructor(auth, handlers) {
    this.#handlers = handlers;
    this.#socket = window.io({
      transports: ["websocket"],
      auth: (give) => give(auth()),
      autoConnect: false,
      reconnection: false,
      timeout: CONNECT_TIMEOUT,
    });
    this.#listen();
  }

  /** Connects, or connects again with what `auth` says now. */
  renew() {
    this.#wanted = true;
    clearTimeout(this.#timer);
    this.#socket.disconnect();
    this.#socket.connect();
  }

  get connected() {
    return this.#socket.connected;
  }

  /** Sends and waits for the answer; rejects when none came in `timeout` ms or the connection was lost. */
  request(event, argument, timeout) {
    return this.#socket.timeout(timeout).emitWithAck(event, argument);
  }

  /** Sends what may be lost. */
  signal(event) {
    if (this.connected) this.#socket.volatile.emit(event);
  }

  #listen() {
    const { state, history, message, presence, typing } = this.#handlers;
    this.#socket.on("history", (page) => {
      this.#failures = 0;
      history(page);
      state("connected");
    });
    this.#socket.on("message", (text, about) => message({ text, ...about }));
    this.#socket.on("presence", presence);
    this.#socket.on("typing", typing);
    this.#socket.on("draining", ({ after }) => {
      state("draining");
      // Everybody leaves at a moment of their own, so that the next server is not met by all at once.
      this.#later(Math.random() * after);
    });
    this.#socket.on("disconnect", (reason) => {
      state("reconnecting");
      if (reason !== "io client disconnect") this.#backOff();
    });
    this.#socket.on("connect_error", ({ data }) => this.#refused(data?.code));
    window.addEventListener("online", () => this.#wake());
    document.addEventListener("visibilitychange", () => document.hidden || this.#wake());
  }

  /** Somebody is back: no reason to wait for the timer. */
  #wake() {
    if (this.#wanted && !this.connected) this.renew();
  }

  #refused(code) {
    this.#handlers.state(code ? "refused" : "reconnecting", code);
    // Only the person can cure a name.
    if (code !== "invalid_name") this.#backOff();
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
