// A room on this machine: three servers behind a load balancer that connects clients to ready servers only. Each server has its own link
// to a RabbitMQ with one node, or the addresses of all nodes of a cluster, of which it chooses one by chance.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createWriteStream, mkdirSync } from "node:fs";

import { logOf } from "../../lib/broker.mjs";
import { readLog } from "../../lib/log.mjs";
import { Proxy } from "../../lib/proxy.mjs";
import { PapoServer, root } from "../../lib/server.mjs";
import { until } from "../../lib/wait.mjs";

const PROBE_MS = 250;
/** Short drains, limits above the traffic of a trial, and pages too short to hide a resume that failed. */
const DEFAULTS = { PAPO_HISTORY_PAGE: "5", PAPO_DRAIN_PERIOD: "3", PAPO_MESSAGE_BURST: "200", PAPO_MAX_MESSAGES_PER_SECOND: "50" };

export class Loopback {
  /** Starts three servers of a new room, with `flags` added to their own, and waits until they are ready. */
  static async start(broker, flags = []) {
    const place = new Loopback();
    place.broker = broker;
    place.room = `faults/r-${randomBytes(5).toString("hex")}`;
    place.servers = [];
    for (let n = 0; n < 3; n++) place.servers.push(await Server.create(place, n, flags));
    const started = await Promise.allSettled(place.servers.map((server) => server.start()));
    const failed = started.find(({ status }) => status === "rejected");
    if (failed) {
      await Promise.all(place.servers.map((server) => server.remove()));
      throw failed.reason;
    }
    let turn = 0;
    place.front = await Proxy.to(() => {
      const ready = place.servers.filter((server) => server.ready);
      return ready.length ? { port: ready[turn++ % ready.length].port } : null;
    });
    place.url = place.front.url;
    return place;
  }

  /** The log. Every node of a cluster must have the same one. */
  async log(epoch, last) {
    const read = ({ url }) => readLog(url, logOf(this.room, epoch), last);
    if (!this.broker.nodes) return read(this.broker);
    const logs = await Promise.all(this.broker.nodes.map((node) => until(`${node.name} has the log`, () => read(node))));
    for (const { records } of logs) assert.deepEqual(records, logs[0].records, "two nodes have different logs");
    return logs[0];
  }

  async stop() {
    this.front.close();
    await Promise.all(this.servers.map((server) => server.remove()));
  }
}

export class Server extends PapoServer {
  #probe;
  ready = false;
  /** Times at which the server became ready or stopped being ready. */
  changes = [];

  static async create(place, n, flags) {
    const folder = root("target/fault-logs");
    mkdirSync(folder, { recursive: true });
    const log = createWriteStream(`${folder}/${place.room.replace("/", "-")}-${n + 1}.log`, { flags: "a" });
    const server = new Server({ name: `server ${n + 1}`, env: DEFAULTS, log });
    server.flags = ["--broker", await server.#addresses(place), "--declare", "--room", place.room, ...flags];
    return server;
  }

  async #addresses({ broker }) {
    if (broker.nodes) return broker.nodes.map(({ url }) => url).join(",");
    this.link = await Proxy.to(broker.port);
    const url = new URL(broker.url);
    url.port = this.link.port;
    return url.href;
  }

  /** Starts or restarts the server, and waits until it is ready. */
  async start() {
    await super.start(...this.flags);
    await this.#ask();
    clearInterval(this.#probe);
    this.#probe = setInterval(() => this.#ask(), PROBE_MS);
  }

  async #ask() {
    const ready = await this.isReady();
    if (ready !== this.ready) this.changes.push({ ready, at: Date.now() });
    this.ready = ready;
  }

  async kill() {
    const code = await super.kill();
    await this.#ask();
    return code;
  }

  async terminate() {
    const ended = await super.terminate();
    await this.#ask();
    return ended;
  }

  async remove() {
    clearInterval(this.#probe);
    await this.kill();
    this.link?.close();
    this.log.end();
  }
}
