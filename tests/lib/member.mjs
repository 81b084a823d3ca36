// A member of a room, with the official Socket.IO client: it sends and resumes as the page does, and records what it sent and was
// shown.

import { randomUUID } from "node:crypto";

import { io } from "socket.io-client";

import { lasting, until } from "./wait.mjs";

/** Rejections after which the same message is sent again, with its id. */
const RETRIED = new Set(["timeout", "unavailable", "draining", "rate_limited"]);
const ACKNOWLEDGED_WITHIN_MS = 20_000;

export class Member {
  // For the checker.
  /** { id, at, attempts, connection, acknowledged?: { epoch, offset, at }, rejected? }, in the order in which they were sent. */
  sent = [];
  /** { epoch, offset, sender, id, at }, in the order in which they were shown. */
  shown = [];
  /** { before, kind: "page" | "gap", epoch, ... }; `before`: index in `shown` of the next message. */
  notices = [];

  /** Final rejections of messages. */
  rejected = [];
  /** Reasons why connections were closed or rejected. */
  closes = [];
  connections = 0;
  /** Number of `draining` events. */
  drained = 0;

  // Everything that the server sent, in order. A member with `texts: false` does not record it.
  /** Names of all events. */
  events = [];
  histories = [];
  presences = [];
  typing = [];
  /** Messages of histories and live ones: { text, id, offset, user, sender, at }. */
  messages = [];
  live = [];

  /** Joins, and waits for the first history. */
  static async join(url, auth, { seconds, ...options } = {}) {
    const member = new Member(url, auth, options);
    await until(`${member.name} is in the room`, () => member.epoch, seconds);
    return member;
  }

  /**
   * Connects, without waiting.
   *
   * `auth` is that of the CONNECT packet, or a name. With a name, the member gets a token, so it stays the same sender when it
   * reconnects. With `test`, the member leaves when that test ends. With `texts: false`, the member records only what the checker needs:
   * this is for load. The client gets the other options.
   */
  constructor(url, auth = {}, { test, texts = true, reconnection = true, ...options } = {}) {
    const said = typeof auth === "string" ? { name: auth, token: randomUUID() } : auth;
    this.name = said.name ?? "a guest";
    this.reconnects = reconnection;
    this.socket = io(url, {
      transports: ["websocket"],
      forceNew: true,
      reconnection,
      reconnectionDelay: 100,
      reconnectionDelayMax: 1000,
      timeout: 5000,
      auth: (give) => give({ ...said, ...this.place }),
      ...options,
    });
    test?.after(() => this.leave());
    this.socket.on("connect", () => (this.connections += 1));
    this.socket.on("disconnect", (reason) => this.closes.push(reason));
    this.socket.on("connect_error", (error) => this.#onRejected(error));
    this.socket.on("history", (history) => this.#onHistory(history));
    this.socket.on("message", (text, about) => this.#onMessage(text, about));
    this.socket.on("draining", ({ after }) => this.#onDraining(after));
    if (!texts) return;
    this.socket.onAny((event) => this.events.push(event));
    this.socket.on("history", (history) => (this.histories.push(history), this.messages.push(...history.messages)));
    this.socket.on("message", (text, about) => [this.live, this.messages].forEach((list) => list.push({ text, ...about })));
    this.socket.on("presence", (event) => this.presences.push(event));
    this.socket.on("typing", (event) => this.typing.push(event));
  }

  /** Its position in the log, which it sends when it reconnects. */
  get place() {
    return this.epoch && { epoch: this.epoch, ...(this.offset !== undefined && { offset: this.offset }) };
  }

  async #onRejected(error) {
    this.closes.push(error.data?.code ?? error.message);
    // After a rejection by the server the client does not try again by itself. The member does, as the page does.
    if (this.socket.active || !this.reconnects) return;
    await lasting(0.25 + Math.random() * 0.25);
    if (!this.left) this.socket.connect();
  }

  /** Leaves a draining server after a random time, as the page does, so that the other servers do not get all members at once. */
  async #onDraining(ms) {
    this.drained += 1;
    const connection = this.connections;
    await lasting((Math.random() * ms) / 1000);
    if (!this.reconnects || this.connections !== connection || !this.socket.connected) return;
    this.socket.disconnect();
    this.socket.connect();
  }

  #onHistory({ epoch, messages, recovered, gap, you }) {
    this.sender = you.sender;
    if (epoch !== this.epoch || !recovered) this.notices.push({ before: this.shown.length, kind: "page", epoch, recovered });
    if (gap) this.notices.push({ before: this.shown.length, kind: "gap", epoch, ...gap });
    if (epoch !== this.epoch) this.offset = undefined;
    this.epoch = epoch;
    for (const message of messages) this.#show(message);
  }

  #onMessage(text, about) {
    this.#show(about);
  }

  #show({ offset, sender, id }) {
    this.offset = offset;
    this.shown.push({ epoch: this.epoch, offset, sender, id, at: Date.now() });
  }

  /** Emits an event; returns its acknowledgement. */
  ask(event, ...args) {
    return this.socket.timeout(ACKNOWLEDGED_WITHIN_MS).emitWithAck(event, ...args);
  }

  /** Sends each text once, in order; returns the acknowledgements. */
  say(...texts) {
    return Promise.all(texts.map((text) => this.ask("message", text)));
  }

  /** Sends a message, with the same id every time, until it is acknowledged or finally rejected. */
  async send(text, id = randomUUID()) {
    const message = { id, at: Date.now(), attempts: 0 };
    this.sent.push(message);
    for (;;) {
      await this.#connected();
      message.attempts += 1;
      message.connection = this.connections;
      const answer = await this.ask("message", { text, id }).catch(() => ({ code: "timeout" }));
      if (answer.ok) {
        message.acknowledged = { epoch: answer.epoch, offset: answer.offset, at: Date.now() };
        return message;
      }
      if (!RETRIED.has(answer.code)) {
        message.rejected = answer.code;
        this.rejected.push(answer);
        return message;
      }
      message.last = answer.code;
      await lasting(0.1 + Math.random() * 0.4);
    }
  }

  async #connected() {
    if (this.socket.connected) return;
    await new Promise((connected) => this.socket.once("connect", connected));
  }

  /** Waits for a message with this text, and returns it. */
  sees(text, seconds) {
    return until(`${this.name} sees "${text}"`, () => this.messages.find((message) => message.text === text), seconds);
  }

  /** Waits until the newest message has this text. */
  isAt(text) {
    return until(`"${text}" is the newest message of ${this.name}`, () => this.messages.at(-1)?.text === text);
  }

  /** Texts of the live messages. */
  get texts() {
    return this.live.map(({ text }) => text);
  }

  /** Its acknowledged messages. */
  get acknowledged() {
    return this.sent.filter(({ acknowledged }) => acknowledged);
  }

  /** Its history, for the checker. */
  get history() {
    const { name, sender, sent, shown, notices, left } = this;
    return { name, sender, sent, shown, notices, left };
  }

  /** Its TCP connection. */
  get tcp() {
    return this.socket.io.engine.transport.ws._socket;
  }

  leave() {
    this.left = true;
    this.socket.disconnect();
  }

  /** Joins again after it left. */
  comeBack() {
    this.left = false;
    this.socket.connect();
  }
}

/** The texts "m 1" to "m COUNT". */
export const numbered = (count, text = "m", from = 1) => Array.from({ length: count }, (_, n) => `${text} ${from + n}`);
