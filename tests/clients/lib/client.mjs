// A member by the official client, who remembers everything it was told.

import { once } from "node:events";

import { io } from "socket.io-client";

import { until } from "../../page/lib/wait.mjs";

const ANSWER_WITHIN = 20_000;

export class Client {
  /** Live messages: { text, ...about }. */
  live = [];
  /** Names of all events, in the order they came. */
  events = [];
  histories = [];
  presences = [];
  typing = [];

  /** Connects for the test `t`, without waiting. */
  constructor(t, url, auth = {}, options = {}) {
    this.socket = io(url, { transports: ["websocket"], forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200, ...options });
    this.socket.auth = (give) => give({ ...auth, ...this.resume });
    t.after(() => this.socket.disconnect());
    this.socket.onAny((event) => this.events.push(event));
    this.socket.on("message", (text, about) => this.#saw({ text, ...about }));
    this.socket.on("history", (page) => {
      this.histories.push(page);
      if (page.messages.length) this.resume = { epoch: page.epoch, offset: page.messages.at(-1).offset };
    });
    this.socket.on("presence", (event) => this.presences.push(event));
    this.socket.on("typing", (event) => this.typing.push(event));
  }

  /** Connects and waits for the history. */
  static async join(t, url, auth, options) {
    const client = new Client(t, url, auth, options);
    await once(client.socket, "history");
    return client;
  }

  #saw(message) {
    this.live.push(message);
    this.resume = { epoch: this.histories.at(-1).epoch, offset: message.offset };
  }

  /** The acknowledgement of an event. */
  ask(event, ...args) {
    return this.socket.timeout(ANSWER_WITHIN).emitWithAck(event, ...args);
  }

  /** Sends these, in order; the acknowledgements. */
  say(...texts) {
    return Promise.all(texts.map((text) => this.ask("message", text)));
  }

  /** Waits for a live message with this text. */
  sees(text) {
    return until(`"${text}" arrives`, () => this.live.find((message) => message.text === text));
  }

  /** Waits until the newest message here, of the past or live, has this text. */
  until(text) {
    return until(`"${text}" is the newest here`, () => this.seen.at(-1)?.text === text);
  }

  /** The first history and what followed it. */
  get seen() {
    return [...this.histories[0].messages, ...this.live];
  }

  get texts() {
    return this.live.map(({ text }) => text);
  }
}

export const numbered = (count, text = "m") => Array.from({ length: count }, (_, n) => `${text} ${n + 1}`);
