// A TCP proxy that does to a connection what networks do.

import { once } from "node:events";
import { connect, createServer } from "node:net";

export class Proxy {
  #links = new Set();
  #server;
  /** Bytes are swallowed, both ways or only towards the client, while the connections stay open. */
  #silence = { up: false, down: false };
  #delay = () => 0;
  #isCut = false;
  #isHeld = false;

  /** Forwards to `target`: a port, or what it says at each connection: { port } or { path }, or null for nobody. */
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
      this.#pipe(from, into, way);
    }
    client.resume();
    if (this.#isHeld) server.pause();
  }

  #pipe(from, into, way) {
    // Pieces on their way, each with the time at which it arrives: never before what was sent before it.
    const held = [];
    const arrive = () => {
      while (held.length && held[0].at <= Date.now()) write(from, into, held.shift().bytes);
      if (held.length) setTimeout(arrive, held[0].at - Date.now());
    };
    from.on("data", (bytes) => {
      if (this.#silence[way]) return;
      const delay = this.#delay();
      if (delay === 0 && held.length === 0) return void write(from, into, bytes);
      held.push({ bytes, at: Math.max(Date.now() + Math.round(delay), held.at(-1)?.at ?? 0) });
      if (held.length === 1) arrive();
    });
  }

  /** Loses everything from now on, in silence: no close, no reset. */
  silence({ up = true, down = true } = {}) {
    this.#silence = { up, down };
  }

  /** Delivers again; what was lost stays lost, so connections from before are of no use any more. */
  speak() {
    this.#silence = { up: false, down: false };
  }

  /** Holds every piece back for about this long. */
  delay(ms, jitter = 0) {
    this.#delay = ms ? () => ms + (2 * Math.random() - 1) * jitter : () => 0;
  }

  /** Ends every connection, and each that is tried, until `mend()`. */
  cut() {
    this.#isCut = true;
    this.#destroy();
  }

  mend() {
    this.#isCut = false;
  }

  /** Passes nothing from the server on, until `release()`; what the client sends passes. */
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

/** Writes, and lets the other side feel it when there is no room. */
function write(from, into, bytes) {
  if (into.destroyed || into.write(bytes)) return;
  from.pause();
  into.once("drain", () => from.resume());
}
