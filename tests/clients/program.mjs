// A member of a room whose client is a program of its own, in any language (programs/).
//
// The program gets URL NAME TOKEN [TRANSPORT] as arguments; without TRANSPORT it uses the transports that are the client's default. It reads
// lines, and sends each of them as a message. It writes JSON arrays, one a line: ["connect"], ["disconnect", ...], ["history", history],
// ["message", text, about], ["acknowledged", text, answer]. When the client reconnects, it sends the position of the last message.

import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createInterface } from "node:readline";

import { until } from "../lib/wait.mjs";

export class Program {
  /** All lines, in order. */
  lines = [];
  #errors = "";
  #child;

  /** Starts a program that ends with the test `t`, and waits until it is in the room. */
  static async start(t, [file, ...args], url, { name, transport } = {}) {
    const program = new Program();
    program.name = name;
    const about = [url, name, randomUUID(), ...(transport ? [transport] : [])];
    program.#child = spawn(file, [...args, ...about], { cwd: import.meta.dirname, stdio: ["pipe", "pipe", "pipe"] });
    t.after(() => program.#end());
    program.#child.stdin.on("error", () => {});
    program.#child.stderr.on("data", (text) => (program.#errors = (program.#errors + text).slice(-10_000)));
    createInterface({ input: program.#child.stdout }).on("line", (line) => program.lines.push(JSON.parse(line)));
    await once(program.#child, "spawn");
    await program.#until(`${name} is in the room`, () => program.histories[0]);
    return program;
  }

  #until = async (what, condition) => {
    const result = await until(what, () => condition() || (this.#child.exitCode !== null && "ended"));
    if (result === "ended") throw new Error(`${this.name} ended:\n${this.#errors}`);
    return result;
  };

  /** Values of each line of this event. */
  of = (event) => this.lines.filter(([name]) => name === event).map(([, ...values]) => values);

  get histories() {
    return this.of("history").map(([history]) => history);
  }

  /** Texts that it was shown, in order: those of histories, and live ones. */
  get texts() {
    return this.lines.flatMap(([event, first]) => (event === "history" ? first.messages.map(({ text }) => text) : event === "message" ? [first] : []));
  }

  /** Sends a message; returns its acknowledgement. */
  async say(text) {
    this.#child.stdin.write(`${text}\n`);
    const [, answer] = await this.#until(`"${text}" of ${this.name} is acknowledged`, () => this.of("acknowledged").find(([said]) => said === text));
    return answer;
  }

  sees = (text) => this.#until(`${this.name} sees "${text}"`, () => this.texts.includes(text));

  /** Waits until its client has noticed that the connection is cut. */
  isCut = () => this.#until(`${this.name} notices the cut`, () => this.of("disconnect").length > 0);

  /** Waits until it has got this many histories: one for each time it has joined. */
  hasJoined = (times) => this.#until(`${this.name} has joined ${times} times`, () => this.histories.length >= times);

  /** Ends the program as its user does. */
  async #end() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill();
    await ended;
  }
}
