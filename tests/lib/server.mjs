// A papo-server on loopback, which a test can stop and start again at the same address.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { lasting, until } from "./wait.mjs";

/** Ports outside the kernel's ephemeral range and that of tests/rabbitmq, so only another test run can use one. */
const PORTS = { first: 10_000, count: 10_000 };
const PORT_WITHIN_MS = 30_000;
/** Limits by address that no test reaches unless it sets them: all clients of a test have one address. */
export const NO_ADDRESS_LIMITS = {
  PAPO_ADDRESS_MESSAGES_PER_SECOND: "1000000",
  PAPO_ADDRESS_MESSAGE_BURST: "1000000",
  PAPO_ADDRESS_BYTES_PER_SECOND: "100000000",
  PAPO_ADDRESS_BYTE_BURST: "1073741824",
  PAPO_ADDRESS_CONNECTIONS: "1000000",
  PAPO_ADDRESS_CONNECTS_PER_SECOND: "1000000",
  PAPO_ADDRESS_CONNECT_BURST: "1000000",
};

/** As `env` of a server: the limits by address that users get. */
export const DEFAULT_ADDRESS_LIMITS = Object.fromEntries(Object.keys(NO_ADDRESS_LIMITS).map((name) => [name, undefined]));
/** Seconds of processor time in a tick of /proc (proc(5)): USER_HZ is 100 on all architectures that Papo is built for. */
const TICK = 0.01;

/** A path within the repository. */
export const root = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** PAPO_SERVER, or cargo's release or debug build. */
export function binary() {
  const target = process.env.CARGO_TARGET_DIR ?? root("target");
  const found = [process.env.PAPO_SERVER, `${target}/release/papo-server`, `${target}/debug/papo-server`].find((path) => path && existsSync(path));
  if (!found) throw new Error("no papo-server: build it (cargo build -p papo-server) or name it in PAPO_SERVER");
  return found;
}

export class PapoServer {
  #child;
  #output = "";
  #hasClosed = false;

  /** Starts a server that stops when the test `t` ends. `flags` are added to those of the addresses. */
  static async start(t, ...flags) {
    const server = new PapoServer();
    t.after(() => server.kill());
    await server.start(...flags);
    return server;
  }

  /** `env`: additional environment variables; `log`: a stream for the server's output; `descriptors`: its hard limit of file descriptors. */
  constructor({ name = "papo-server", env = {}, log, descriptors } = {}) {
    Object.assign(this, { name, env, log, descriptors });
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  get pid() {
    return this.#child.pid;
  }

  get hasEnded() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Starts the server, or restarts it at the same address, and waits until it is ready. */
  async start(...flags) {
    const isNew = this.port === undefined;
    const end = performance.now() + PORT_WITHIN_MS;
    for (;;) {
      if (isNew) [this.port, this.adminPort] = [unusedPort(), unusedPort()];
      this.#spawn(flags);
      const state = await until(`${this.name} is ready`, async () => (this.#hasClosed ? "ended" : (await this.isReady()) && "ready"));
      if (state === "ready") return;
      // Only the bind tells whether a port is free. A new server then tries another port; a restarted one waits for its own.
      const isTaken = /another program|in use/i.test(this.#output);
      if (!isTaken || performance.now() > end) throw new Error(`${this.name} ended:\n${this.#output}`);
      await lasting(0.1);
    }
  }

  #spawn(flags) {
    const addresses = ["--listen", `127.0.0.1:${this.port}`, "--admin-listen", `127.0.0.1:${this.adminPort}`];
    // The server serves the page of the tree, not the page that was built into the binary.
    const page = flags.includes("--web-root") ? [] : ["--web-root", root("web")];
    const limited = this.descriptors ? ["sh", "-c", `ulimit -n ${this.descriptors}; exec "$@"`, "sh"] : [];
    const [program, ...args] = [...limited, binary(), ...addresses, ...page, ...flags];
    this.#child = spawn(program, args, { env: { ...NO_ADDRESS_LIMITS, ...process.env, ...this.env }, stdio: ["ignore", "pipe", "pipe"] });
    const child = this.#child;
    this.#output = "";
    this.#hasClosed = false;
    child.once("close", () => child === this.#child && (this.#hasClosed = true));
    for (const output of [this.#child.stdout, this.#child.stderr]) {
      if (this.log) output.pipe(this.log, { end: false });
      output.on("data", (text) => (this.#output = (this.#output + text).slice(-10_000)));
    }
  }

  /** Whether `/readyz` answers 200. */
  async isReady() {
    const answer = await fetch(`http://127.0.0.1:${this.adminPort}/readyz`, { signal: AbortSignal.timeout(5000) }).catch(() => null);
    return answer?.ok ?? false;
  }

  stats = async () => (await fetch(`http://127.0.0.1:${this.adminPort}/stats`)).json();

  /** The value of a metric, named with its labels; 0 if it does not exist. */
  async metric(name) {
    const text = await (await fetch(`http://127.0.0.1:${this.adminPort}/metrics`)).text();
    const line = text.split("\n").find((one) => one.startsWith(name));
    return line ? Number(line.split(" ").at(-1)) : 0;
  }

  /** The values of a metric with one label, by the label's value. */
  async metrics(name) {
    const text = await (await fetch(`http://127.0.0.1:${this.adminPort}/metrics`)).text();
    const lines = text.matchAll(new RegExp(`^${name}\\{\\w+="(.*)"\\} (\\S+)$`, "gm"));
    return Object.fromEntries([...lines].map(([, label, value]) => [label, Number(value)]));
  }

  #status = (field) => Number(readFileSync(`/proc/${this.pid}/status`, "utf8").match(new RegExp(`^${field}:\\s+(\\d+) kB`, "m"))[1]) * 1024;
  /** Its resident memory, in bytes. */
  resident = () => this.#status("VmRSS");
  /** The most resident memory since it started, or since `forgetPeak`, in bytes. */
  peak = () => this.#status("VmHWM");
  forgetPeak = () => writeFileSync(`/proc/${this.pid}/clear_refs`, "5");

  /** The processor time that it has taken, in seconds. */
  processor() {
    const fields = readFileSync(`/proc/${this.pid}/stat`, "utf8").split(") ").at(-1).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * TICK;
  }

  /** Kills the server, as a crash does: clients get no notice. */
  kill() {
    return this.#end("SIGKILL");
  }

  /** Stops the server with SIGTERM, as Kubernetes does; returns its exit code and the seconds until it exited. */
  async terminate() {
    const begun = performance.now();
    const code = await this.#end("SIGTERM");
    return { code, seconds: (performance.now() - begun) / 1000 };
  }

  async #end(signal) {
    if (!this.#child || this.hasEnded) return this.#child?.exitCode;
    const ended = once(this.#child, "exit");
    this.#child.kill(signal);
    const [code] = await ended;
    return code;
  }
}

const taken = new Set();
/** A port that no other server of this process has. */
export function unusedPort() {
  let port;
  do port = PORTS.first + Math.floor(Math.random() * PORTS.count);
  while (taken.has(port));
  taken.add(port);
  return port;
}
