// A member of a room without a browser: sends, resumes, and remembers everything it was shown, in order.

import { randomUUID } from "node:crypto";

import { io } from "socket.io-client";

import { toIngress } from "./ingress.mjs";
import { until } from "./wait.mjs";

export class Member {
  /** Joins and returns once the room has sent its history. */
  static async join(url, name, seconds = 60) {
    const member = new Member(url, name);
    await until(`${name} is in the room at ${url}`, () => member.epoch, seconds);
    return member;
  }

  constructor(url, name) {
    this.name = name;
    /** Messages as they were shown, oldest first: { id, offset, text, user }. */
    this.seen = [];
    /** Ids of what this member sent and the room acknowledged. */
    this.acknowledged = [];
    /** Refusals that were final. */
    this.refused = [];
    /** Epochs, in the order they were met. */
    this.epochs = [];
    this.gaps = [];
    /** How often the room did not know where this member had been, though the epoch was the same. */
    this.forgotten = 0;
    this.connections = 0;
    const token = randomUUID();
    this.socket = io(url, {
      transports: ["websocket"],
      agent: toIngress(),
      forceNew: true,
      reconnectionDelay: 100,
      reconnectionDelayMax: 1000,
      timeout: 5000,
      auth: (answer) => answer({ name, token, epoch: this.epoch, offset: this.seen.at(-1)?.offset }),
    });
    this.socket.on("connect", () => (this.connections += 1));
    // socket.io-client gives up on a refusal, such as a full or draining server's; people's pages do not.
    this.socket.on("connect_error", () => this.socket.active || setTimeout(() => this.socket.connect(), 250));
    this.socket.on("history", (history) => this.onHistory(history));
    this.socket.on("message", (text, about) => this.show({ text, ...about }));
  }

  onHistory({ epoch, messages, recovered, gap }) {
    if (epoch !== this.epoch) {
      this.epochs.push(epoch);
      this.epoch = epoch;
      this.seen = [];
    } else if (!recovered && this.seen.length > 0) {
      this.forgotten += 1;
    }
    if (gap) this.gaps.push(gap);
    for (const message of messages) this.show(message);
  }

  show({ id, offset, text, user }) {
    this.seen.push({ id, offset, text, user });
  }

  /** Sends until the room has it (or refuses it for good), as the page does: the same id every time. */
  async send(text) {
    const id = randomUUID();
    await until(`the room took "${text}" from ${this.name}`, async () => {
      const answer = await this.socket.timeout(20_000).emitWithAck("message", { text, id });
      if (!answer.ok && !["timeout", "unavailable", "draining", "rate_limited"].includes(answer.code)) {
        this.refused.push(answer);
        return answer;
      }
      return answer.ok;
    });
    this.acknowledged.push(id);
    return id;
  }

  /** Waits until it was shown a message with this text. */
  sees(text, seconds = 60) {
    return until(`${this.name} sees "${text}"`, () => this.seen.find((message) => message.text === text), seconds);
  }

  leave() {
    this.socket.disconnect();
  }
}
