// A TCP proxy that delays, loses, holds back and cuts connections, as networks do.

import { once } from "node:events";
import { connect, createServer } from "node:net";

/** The beginning of a server's answer to the handshake of a WebSocket. */
const UPGRADED = Buffer.from("HTTP/1.1 101 ");

export class Proxy {
  #links = new Set();
  #server;
  /** Whether bytes to the server (up) and to the client (down) are dropped while the connections stay open. */
  #silence = { up: false, down: false };
  #delay = () => 0;
  #isCut = false;
  #isHeld = false;

  /** Forwards to `target`: a port, or a function called for each connection that returns { port }, { path }, or null to close it. */
  static async to(target, { test } = {}) {
    const choose = typeof target === "number" ? () => ({ port: target }) : target;
    const proxy = new Proxy();
    proxy.#server = createServer((client) => proxy.#accept(client, choose)).listen(0, "127.0.0.1");
    test?.after(() => proxy.close());
    await once(proxy.#server, "listening");
    proxy.port = proxy.#server.address().port;
    return proxy;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async #accept(client, choose) {
    client.on("error", () => {});
    client.pause();
    const to = await choose();
    if (!to || this.#isCut || client.destroyed) return void client.destroy();
    const server = connect({ host: "127.0.0.1", ...to });
    const link = { client, server };
    this.#links.add(link);
    for (const [from, into, way] of [
      [client, server, "up"],
      [server, client, "down"],
    ]) {
      from.setNoDelay(true);
      from.on("error", () => into.destroy());
      from.on("close", () => (this.#links.delete(link), into.destroy()));
      this.#pipe(from, into, way, link);
    }
    client.resume();
    if (this.#isHeld) server.pause();
  }

  #pipe(from, into, way, link) {
    // Delayed pieces, each with the time at which it arrives. No piece arrives before an earlier one.
    const delayed = [];
    const arrive = () => {
      while (delayed.length && delayed[0].at <= Date.now()) write(from, into, delayed.shift().bytes);
      if (delayed.length) setTimeout(arrive, delayed[0].at - Date.now());
    };
    from.on("data", (bytes) => {
      if (way === "down" && bytes.subarray(0, UPGRADED.length).equals(UPGRADED)) link.isUpgraded = true;
      if (this.#silence[way]) return;
      const delay = this.#delay();
      if (delay === 0 && delayed.length === 0) return void write(from, into, bytes);
      delayed.push({ bytes, at: Math.max(Date.now() + Math.round(delay), delayed.at(-1)?.at ?? 0) });
      if (delayed.length === 1) arrive();
    });
  }

  /** Drops all bytes from now on, without closing or resetting a connection. */
  silence({ up = true, down = true } = {}) {
    this.#silence = { up, down };
  }

  /** Delivers again. Connections that lost bytes are of no further use. */
  speak() {
    this.#silence = { up: false, down: false };
  }

  /** Delays every piece by `ms`, plus or minus `jitter`, in milliseconds. */
  delay(ms, jitter = 0) {
    this.#delay = ms ? () => ms + (2 * Math.random() - 1) * jitter : () => 0;
  }

  /** Ends all connections, and every new one until `mend()`. */
  cut() {
    this.#isCut = true;
    this.#destroy();
  }

  mend() {
    this.#isCut = false;
  }

  /** Holds back everything from the server until `release()`. Bytes from the client pass. */
  hold() {
    this.#isHeld = true;
    for (const { server } of this.#links) server.pause();
  }

  release() {
    this.#isHeld = false;
    for (const { server } of this.#links) server.resume();
  }

  /** Ends all connections with a reset, as a firewall or a dying machine does. */
  reset() {
    for (const { client, server } of this.#links) {
      client.resetAndDestroy();
      server.resetAndDestroy();
    }
  }

  /** Ends all connections, each in the middle of a packet on its way to the client. */
  cutMidway(count = Infinity) {
    const chosen = [...this.#links].slice(0, count);
    for (const { client, server } of chosen) {
      server.removeAllListeners("data");
      server.once("data", (bytes) => {
        client.write(bytes.subarray(0, Math.ceil(bytes.length / 2)), () => client.resetAndDestroy());
        server.destroy();
      });
    }
    return chosen.length;
  }

  get connections() {
    return this.#links.size;
  }

  /** Connections that are WebSockets. */
  get upgraded() {
    return [...this.#links].filter(({ isUpgraded }) => isUpgraded).length;
  }

  close() {
    this.#server.close();
    this.#destroy();
  }

  #destroy() {
    for (const { client, server } of this.#links) {
      client.destroy();
      server.destroy();
    }
  }
}

/** Writes `bytes`, and pauses the sending side while the buffer of the receiving side is full. */
function write(from, into, bytes) {
  if (into.destroyed || into.write(bytes)) return;
  from.pause();
  into.once("drain", () => from.resume());
}
