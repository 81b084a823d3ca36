// Starts and stops processes of attackers, so that the work of the attackers does not delay the honest members' process.

import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import { until } from "../../lib/wait.mjs";

const PROGRAM = fileURLToPath(new URL("attacker.mjs", import.meta.url));

export class Attackers {
  /** Calls the exported function `name` of `module` with `options`, in a process of its own. */
  constructor({ module, name, ...options }) {
    this.child = fork(PROGRAM, [module, name, JSON.stringify(options)]);
    this.child.on("message", (counts) => (this.counts = counts));
    this.child.on("exit", (code) => (this.code = code));
  }

  /** Stops the attack, and returns what it counted. */
  async stop() {
    if (this.child.connected) this.child.send("stop");
    try {
      await until("the attackers stop", () => this.counts ?? this.code !== undefined, 60);
      if (!this.counts) throw new Error(`the attackers ended with ${this.code}`);
    } finally {
      await this.kill();
    }
    return this.counts;
  }

  async kill() {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await ended;
  }
}

/** The sums of what several attacks counted; of `seconds` and of what `largest` kept, the largest. */
export function sum(all, largest = []) {
  const total = {};
  for (const counts of all)
    for (const [what, number] of Object.entries(counts))
      total[what] = what === "seconds" || largest.includes(what) ? Math.max(total[what] ?? 0, number) : (total[what] ?? 0) + number;
  return total;
}
