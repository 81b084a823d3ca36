// A papo-server of our own on loopback: started, stopped and started again at the same address.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";

import { until } from "./wait.mjs";

/** A path within the repository. */
export const root = (path) => fileURLToPath(new URL(`../../../${path}`, import.meta.url));

/** PAPO_SERVER, or what cargo built last. */
export function binary() {
  const target = process.env.CARGO_TARGET_DIR ?? root("target");
  const found = [process.env.PAPO_SERVER, `${target}/release/papo-server`, `${target}/debug/papo-server`].find((path) => path && existsSync(path));
  if (!found) throw new Error("no papo-server: build it (cargo build -p papo-server) or name it in PAPO_SERVER");
  return found;
}

/** A port that nobody listens on now. */
export async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  await new Promise((closed) => probe.close(closed));
  return port;
}

export class PapoServer {
  #process;
  #log = "";

  /** Starts one that stops when the test `t` ends; `flags` come on top of the addresses. */
  static async start(t, ...flags) {
    const server = new PapoServer();
    server.port = await freePort();
    server.adminPort = await freePort();
    t.after(() => server.kill());
    await server.start(...flags);
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Starts it (again), and waits until it is ready. */
  async start(...flags) {
    const addresses = ["--listen", `127.0.0.1:${this.port}`, "--admin-listen", `127.0.0.1:${this.adminPort}`];
    // The page as it is now, not as it was when the binary was built.
    const page = flags.includes("--web-root") ? [] : ["--web-root", root("web")];
    this.#process = spawn(binary(), [...addresses, ...page, ...flags], { stdio: ["ignore", "pipe", "pipe"] });
    for (const output of [this.#process.stdout, this.#process.stderr]) output.on("data", (text) => (this.#log += text));
    const process = this.#process;
    await until("papo-server is ready", async () => {
      if (process.exitCode !== null) throw new Error(`papo-server ended:\n${this.#log}`);
      return (await fetch(`http://127.0.0.1:${this.adminPort}/readyz`).catch(() => null))?.ok;
    });
  }

  /** As a crash does: no word to anybody. */
  async kill() {
    await this.#end("SIGKILL");
  }

  /** As Kubernetes does. What it returns resolves when the server has ended. */
  terminate() {
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    return ended;
  }

  async #end(signal) {
    if (!this.#process || this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, "exit");
    this.#process.kill(signal);
    await ended;
  }
}
