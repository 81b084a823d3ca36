// A member of a room, by the official Socket.IO client: sends and resumes as the page does, and remembers everything.

import { randomUUID } from "node:crypto";

import { io } from "socket.io-client";

import { lasting, until } from "./wait.mjs";

/** Rejections after which the same message is sent again, with its id. */
const RETRIED = new Set(["timeout", "unavailable", "draining", "rate_limited"]);
const ACKNOWLEDGED_WITHIN_MS = 20_000;

export class Member {
  // For the checker.
  /** { id, at, attempts, connection, acknowledged?: { epoch, offset, at }, rejected? }, in the order they were sent. */
  sent = [];
  /** { epoch, offset, sender, id, at }, in the order they were shown. */
  shown = [];
  /** { before, kind: "page" | "gap", epoch, ... }; `before`: the index in `shown` they came before. */
  notices = [];

  /** Final rejections of messages. */
  rejected = [];
  /** Why connections ended, and why they were not made. */
  closes = [];
  connections = 0;
  /** How often a server said that it is draining. */
  drained = 0;

  // What the server sent, as it came; not kept by a member without `texts`.
  /** Names of all events. */
  events = [];
  histories = [];
  presences = [];
  typing = [];
  /** Messages of histories and live ones: { text, id, offset, user, sender, at }. */
  messages = [];
  live = [];

  /** Joins, and returns when the history has come. */
  static async join(url, auth, { seconds, ...options } = {}) {
    const member = new Member(url, auth, options);
    await until(`${member.name} is in the room`, () => member.epoch, seconds);
    return member;
  }

  /**
   * Connects, without waiting.
   *
   * `auth` is the CONNECT packet's, or only a name; a name comes with a token, so that it stays the same sender. With
   * `test`, the member leaves when that test ends. `texts: false` is for load: it keeps what the checker needs, and no
   * texts. The other options are the client's.
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

  /** Where it stands in the log: what it says when it comes back. */
  get place() {
    return this.epoch && { epoch: this.epoch, ...(this.offset !== undefined && { offset: this.offset }) };
  }

  async #onRejected(error) {
    this.closes.push(error.data?.code ?? error.message);
    // The client tries again by itself, except after a rejection by the server; the page does then too.
    if (this.socket.active || !this.reconnects) return;
    await lasting(0.25 + Math.random() * 0.25);
    if (!this.left) this.socket.connect();
  }

  /** Leaves a server that is draining at the pace of the page, so that the others do not get all members at once. */
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

  /** Emits an event; its acknowledgement. */
  ask(event, ...args) {
    return this.socket.timeout(ACKNOWLEDGED_WITHIN_MS).emitWithAck(event, ...args);
  }

  /** Sends these once each, in order; the acknowledgements. */
  say(...texts) {
    return Promise.all(texts.map((text) => this.ask("message", text)));
  }

  /** Sends until the room has it or rejects it for good, with the same id every time. */
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

  /** What it sent and the room acknowledged. */
  get acknowledged() {
    return this.sent.filter(({ acknowledged }) => acknowledged);
  }

  /** What the checker reads. */
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

  /** Comes back after it left. */
  comeBack() {
    this.left = false;
    this.socket.connect();
  }
}

/** The texts "m 1" to "m COUNT". */
export const numbered = (count, text = "m", from = 1) => Array.from({ length: count }, (_, n) => `${text} ${from + n}`);
