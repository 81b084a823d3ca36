// Clients of Engine.IO by hand: requests of long-polling, and WebSockets whose packets are taken one by one.

import { once } from "node:events";

import WebSocket from "ws";

/** Milliseconds after which a packet or an answer counts as missing. Only a failing test reaches them. */
const WITHIN_MS = 90_000;

/** One server. `url` is that of its endpoint, with a slash at the end. */
export class Engine {
  constructor(url) {
    this.url = url;
  }

  /** The answer to a request: its status and its text. */
  async request(query, { method = "GET", body } = {}) {
    const answer = await fetch(`${this.url}?${query}`, { method, body, signal: AbortSignal.timeout(WITHIN_MS) });
    return { status: answer.status, text: await answer.text() };
  }

  /** What the `open` packet of a new session says, over long-polling. */
  async open() {
    const { status, text } = await this.request("EIO=4&transport=polling");
    if (status !== 200) throw new Error(`no session was opened: ${status} ${text}`);
    return opened(text);
  }

  poll = (sid) => this.request(`EIO=4&transport=polling&sid=${sid}`);
  post = (sid, body) => this.request(`EIO=4&transport=polling&sid=${sid}`, { method: "POST", body });

  /** A WebSocket; with `sid`, one to which that session may upgrade. */
  async socket(sid) {
    const socket = this.connect(sid);
    await once(socket.socket, "open");
    return socket;
  }

  /** A WebSocket whose handshake may fail: then it is closed. */
  connect = (sid) => new Socket(`${this.url}?EIO=4&transport=websocket${sid ? `&sid=${sid}` : ""}`);

  /** The status with which the server rejects the handshake of a WebSocket. */
  async rejects(query) {
    const socket = new WebSocket(address(`${this.url}?${query}`));
    socket.on("error", () => {});
    const [, answer] = await Promise.race([once(socket, "unexpected-response"), once(socket, "open")]);
    socket.terminate();
    return answer?.statusCode;
  }
}

/** What an `open` packet says. */
export function opened(packet) {
  if (packet[0] !== "0") throw new Error(`no open packet: ${packet}`);
  return JSON.parse(packet.slice(1));
}

const address = (url) => url.replace(/^http/, "ws");

/** A WebSocket. Text messages are strings, binary ones are Buffers. */
export class Socket {
  #packets = [];
  #wake = () => {};

  constructor(url) {
    this.socket = new WebSocket(address(url));
    this.socket.on("message", (data, isBinary) => this.#add(isBinary ? data : data.toString()));
    this.socket.on("error", () => {});
    /** Its close code, once it has closed. */
    this.closed = new Promise((resolve) => this.socket.on("close", (code) => (resolve(code), this.#add(null))));
  }

  #add(packet) {
    this.#packets.push(packet);
    this.#wake();
  }

  /** The next packet; null when the socket has closed. */
  async next() {
    const end = performance.now() + WITHIN_MS;
    while (!this.#packets.length) {
      const left = end - performance.now();
      if (left <= 0) throw new Error("no packet has come in time");
      let limit;
      await new Promise((resolve) => ((this.#wake = resolve), (limit = setTimeout(resolve, left))));
      clearTimeout(limit);
    }
    return this.#packets[0] === null ? null : this.#packets.shift();
  }

  /** The next packet for which `is` holds; null when the socket has closed. */
  async find(is) {
    for (;;) {
      const packet = await this.next();
      if (packet === null || is(packet)) return packet;
    }
  }

  send(...packets) {
    for (const packet of packets) this.socket.send(packet);
  }

  close() {
    this.socket.terminate();
  }
}
