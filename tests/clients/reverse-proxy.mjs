// nginx or HAProxy in front of two servers, with a configuration file in which the test replaces the addresses.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

import { unusedPort } from "../lib/server.mjs";
import { until } from "../lib/wait.mjs";

const TRIES = 5;
/** What nginx needs around a file of conf.d, if it does not run as a service. */
const nginx = (folder, file) => `
daemon off;
master_process off;
pid ${folder}/pid;
events {}
http {
  access_log off;
  ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${folder}/${name};`).join(" ")}
  include ${file};
}
`;

export class ReverseProxy {
  #child;
  #output = "";

  /** Starts the program that the configuration file `path` is for. It stops when the test `t` ends. */
  static async start(t, path, servers) {
    const folder = await mkdtemp(join(tmpdir(), "papo-proxy-"));
    const proxy = new ReverseProxy();
    t.after(() => proxy.#end(folder));
    for (let tries = 1; ; tries += 1) {
      proxy.port = unusedPort();
      const file = join(folder, basename(path));
      await writeFile(file, addressed(await readFile(path, "utf8"), proxy.port, servers));
      await proxy.#spawn(folder, file);
      const answers = () => fetch(`http://127.0.0.1:${proxy.port}`).then(() => "answers", () => null);
      const state = await until(`${path} is served`, async () => (proxy.#hasEnded ? "ended" : answers()));
      if (state === "answers") return proxy;
      // Only the bind tells whether a port is free, so the next try uses another.
      if (tries === TRIES) throw new Error(`the program of ${path} ended:\n${proxy.#output}`);
    }
  }

  async #spawn(folder, file) {
    let command = ["haproxy", "-db", "-f", file];
    if (file.endsWith(".conf")) {
      const main = join(folder, "main");
      await writeFile(main, nginx(folder, file));
      command = ["nginx", "-e", "stderr", "-p", folder, "-c", main];
    }
    this.#child = spawn(command[0], command.slice(1), { stdio: ["ignore", "pipe", "pipe"] });
    for (const output of [this.#child.stdout, this.#child.stderr]) output.on("data", (text) => (this.#output = (this.#output + text).slice(-10_000)));
    await once(this.#child, "spawn");
  }

  get #hasEnded() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  async #end(folder) {
    if (this.#child && !this.#hasEnded) {
      const ended = once(this.#child, "exit");
      this.#child.kill("SIGKILL");
      await ended;
    }
    await rm(folder, { recursive: true });
  }
}

/** The configuration with the addresses of this test. */
function addressed(text, port, [one, two]) {
  for (const [from, to] of [
    [/^( *(?:listen|bind)) (?::?80)\b/m, `$1 127.0.0.1:${port}`],
    ["10.0.0.1:5000", `127.0.0.1:${one.port}`],
    ["10.0.0.2:5000", `127.0.0.1:${two.port}`],
  ]) {
    const replaced = text.replace(from, to);
    if (replaced === text) throw new Error(`the configuration has no ${from}`);
    text = replaced;
  }
  return text.replace("port 5001", `port ${one.adminPort}`).replace("port 5001", `port ${two.adminPort}`);
}
