// A member of a room by the official client: sends as the page does, resumes, and remembers all it sent and was shown.

import { randomUUID } from "node:crypto";

import { io } from "socket.io-client";

import { lasting, until } from "./wait.mjs";

/** Refusals after which the same message is sent again, with its id. */
const RETRY = new Set(["timeout", "unavailable", "draining", "rate_limited"]);
const ANSWER_WITHIN_MS = 20_000;

export class Member {
  /** Joins, and returns once the room has sent its history. */
  static async join(url, name, options = {}) {
    const member = new Member(url, name, options);
    await until(`${name} is in the room`, () => member.epoch, 60);
    return member;
  }

  constructor(url, name, { token = randomUUID(), ...options } = {}) {
    this.name = name;
    this.sent = [];
    this.shown = [];
    this.notices = [];
    /** Refusals that are final, with their codes. */
    this.refused = [];
    /** Why connections ended, and why they were not made. */
    this.cuts = [];
    this.connections = 0;
    /** How often a server said that it was going. */
    this.drained = 0;
    this.socket = io(url, {
      transports: ["websocket"],
      forceNew: true,
      reconnectionDelay: 100,
      reconnectionDelayMax: 2000,
      timeout: 5000,
      auth: (answer) => answer({ name, token, ...this.place }),
      ...options,
    });
    this.socket.on("connect", () => (this.connections += 1));
    this.socket.on("disconnect", (reason) => this.cuts.push(reason));
    this.socket.on("connect_error", (error) => this.#refuse(error));
    this.socket.on("history", (history) => this.#page(history));
    this.socket.on("message", (text, about) => this.#show({ epoch: this.epoch, ...about }));
    // The pace at which a page leaves a server that is going, so that the others are not met by all at once.
    this.socket.on("draining", ({ after }) => this.#leaveWithin(after));
  }

  /** Where it stands in the log: what it says when it comes back. */
  get place() {
    return this.override ?? { epoch: this.epoch, offset: this.offset };
  }

  async #refuse(error) {
    this.cuts.push(error.data?.code ?? error.message);
    // The client tries again by itself unless the server refused.
    if (this.socket.active) return;
    await lasting(0.25 + Math.random() * 0.25);
    this.socket.connect();
  }

  async #leaveWithin(ms) {
    this.drained += 1;
    const connection = this.connections;
    await lasting((Math.random() * ms) / 1000);
    if (this.connections !== connection || !this.socket.connected) return;
    this.socket.disconnect();
    this.socket.connect();
  }

  #page({ epoch, messages, recovered, gap, you }) {
    this.sender = you.sender;
    if (epoch !== this.epoch || !recovered) this.notices.push({ before: this.shown.length, kind: "page", epoch, recovered });
    if (gap) this.notices.push({ before: this.shown.length, kind: "gap", epoch, ...gap });
    this.epoch = epoch;
    for (const message of messages) this.#show({ epoch, ...message });
  }

  #show({ epoch, offset, sender, id }) {
    this.offset = offset;
    this.shown.push({ epoch, offset, sender, id, at: Date.now() });
  }

  /** Sends until the room has it or refuses it for good, with the same id every time. */
  async send(text, id = randomUUID()) {
    const message = { id, at: Date.now(), attempts: 0 };
    this.sent.push(message);
    for (;;) {
      await this.#connected();
      message.attempts += 1;
      message.connection = this.connections;
      const answer = await this.socket.timeout(ANSWER_WITHIN_MS).emitWithAck("message", { text, id }).catch(() => ({ code: "timeout" }));
      if (answer.ok) {
        message.acknowledged = { epoch: answer.epoch, offset: answer.offset, at: Date.now() };
        return message;
      }
      if (!RETRY.has(answer.code)) {
        message.refused = answer.code;
        this.refused.push(answer);
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

  /** Comes back after having left. */
  comeBack() {
    this.left = false;
    this.socket.connect();
  }

  /** Its TCP connection. */
  get tcp() {
    return this.socket.io.engine.transport.ws._socket;
  }

  leave() {
    this.left = true;
    this.socket.disconnect();
  }

  get history() {
    const { name, sender, sent, shown, notices, left } = this;
    return { name, sender, sent, shown, notices, left };
  }
}
