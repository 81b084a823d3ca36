// A room on this machine as a cluster would run it: several servers, each with its own link to one RabbitMQ, and in
// front of them a load balancer that knows which are ready.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createWriteStream, mkdirSync, readFileSync } from "node:fs";

import { binary, freePort, root } from "../../page/lib/server.mjs";
import { readLog } from "./log.mjs";
import { Proxy } from "./proxy.mjs";
import { until } from "./wait.mjs";

const PROBE_MS = 250;
/** Short drains, limits that the traffic of a trial stays below, and pages too short to make up for a lost resume. */
const DEFAULTS = { PAPO_HISTORY_PAGE: "5", PAPO_DRAIN_PERIOD: "3", PAPO_MESSAGE_BURST: "200", PAPO_MAX_MESSAGES_PER_SECOND: "50" };

export class Loopback {
  /** Starts three servers of a new room, ready; `flags` come on top of what they need. */
  static async start(broker, flags = []) {
    const place = new Loopback();
    place.broker = broker;
    place.room = `faults/r-${randomBytes(5).toString("hex")}`;
    place.exchange = `papo.${place.room.replace("/", ".")}`;
    place.servers = [];
    for (let n = 0; n < 3; n++) place.servers.push(await Server.create(place, n, flags));
    await Promise.all(place.servers.map((server) => server.start()));
    let turn = 0;
    place.front = await Proxy.to(() => {
      const ready = place.servers.filter((server) => server.ready);
      return ready.length ? { port: ready[turn++ % ready.length].port } : null;
    });
    place.url = `http://127.0.0.1:${place.front.port}`;
    return place;
  }

  stream = (epoch) => `${this.exchange}.log.${epoch}`;
  log = (epoch, last) => readLog(this.broker.url, this.stream(epoch), last);

  async stop() {
    this.front.close();
    await Promise.all(this.servers.map((server) => server.remove()));
  }
}

export class Server {
  #process;
  #probe;
  ready = false;
  /** Times at which it became ready and stopped being it. */
  changes = [];

  static async create(place, n, flags) {
    const server = new Server();
    server.link = await Proxy.to(() => ({ port: place.broker.port }));
    [server.port, server.adminPort] = [await freePort(), await freePort()];
    const url = new URL(place.broker.url);
    url.port = server.link.port;
    server.flags = ["--broker", url.href, "--declare", "--room", place.room, ...flags];
    mkdirSync(root("target/fault-logs"), { recursive: true });
    server.name = `server ${n + 1}`;
    server.log = createWriteStream(root(`target/fault-logs/${place.room.replace("/", "-")}-${n + 1}.log`), { flags: "a" });
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  get pid() {
    return this.#process.pid;
  }

  /** Starts it (again), and waits until it is ready. */
  async start() {
    const addresses = ["--listen", `127.0.0.1:${this.port}`, "--admin-listen", `127.0.0.1:${this.adminPort}`];
    this.#process = spawn(binary(), [...addresses, ...this.flags], { env: { ...process.env, ...DEFAULTS }, stdio: ["ignore", "pipe", "pipe"] });
    const child = this.#process;
    for (const output of [child.stdout, child.stderr]) output.pipe(this.log, { end: false });
    clearInterval(this.#probe);
    this.#probe = setInterval(() => this.#look(), PROBE_MS);
    await until(`${this.name} is ready`, () => {
      if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
      return this.ready;
    });
  }

  async #look() {
    const ready = (await fetch(`http://127.0.0.1:${this.adminPort}/readyz`, { signal: AbortSignal.timeout(2000) }).catch(() => null))?.ok ?? false;
    if (ready !== this.ready) this.changes.push({ ready, at: Date.now() });
    this.ready = ready;
  }

  /** Its resident memory, in bytes. */
  resident = () => Number(readFileSync(`/proc/${this.pid}/status`, "utf8").match(/^VmRSS:\s+(\d+) kB/m)[1]) * 1024;

  stats = async () => (await fetch(`http://127.0.0.1:${this.adminPort}/stats`)).json();

  /** As a crash does: no word to anybody. */
  kill = () => this.#end("SIGKILL");

  /** As Kubernetes does: its exit code, and how many seconds it took. */
  async terminate() {
    const begun = Date.now();
    const code = await this.#end("SIGTERM");
    return { code, seconds: (Date.now() - begun) / 1000 };
  }

  async #end(signal) {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return this.#process.exitCode;
    const ended = once(this.#process, "exit");
    this.#process.kill(signal);
    const [code] = await ended;
    await this.#look();
    return code;
  }

  async remove() {
    clearInterval(this.#probe);
    await this.kill();
    this.link.close();
    this.log.end();
  }
}
