// The RabbitMQ node of a run: a real one of its own, on loopback, that can be killed, stopped and starved.

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { until } from "./wait.mjs";

const SCRIPT = fileURLToPath(new URL("../../rabbitmq/rabbitmq", import.meta.url));
const run = promisify(execFile);

export class Broker {
  static async start() {
    const broker = new Broker();
    const { stdout } = await run(SCRIPT, ["start"], { maxBuffer: 1 << 24 });
    const value = (name) => stdout.match(new RegExp(`^${name}=(.*)$`, "m"))[1];
    broker.handle = value("PAPO_TEST_RABBITMQ_HANDLE");
    broker.url = value("PAPO_TEST_AMQP");
    broker.port = Number(new URL(broker.url).port);
    broker.management = value("PAPO_TEST_MANAGEMENT");
    return broker;
  }

  async #do(...args) {
    return (await run(SCRIPT, args, { maxBuffer: 1 << 24 })).stdout;
  }

  kill = () => this.#do("kill", this.handle);
  /** Starts it on its data, and returns when it serves. */
  restart = () => this.#do("restart", this.handle);
  pause = () => this.#do("pause", this.handle);
  resume = () => this.#do("resume", this.handle);
  stop = () => this.#do("stop", this.handle);
  ctl = (...args) => this.#do("ctl", this.handle, ...args);

  async version() {
    return (await this.api("overview")).rabbitmq_version;
  }

  /** The management API. */
  async api(path, method = "GET", body) {
    const headers = { authorization: `Basic ${btoa("guest:guest")}`, "content-type": "application/json" };
    const answer = await fetch(`${this.management}/api/${path}`, { method, headers, body: body && JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.status === 204 || method !== "GET" ? undefined : answer.json();
  }

  /** Waits until one of these resource alarms is on, or until all are off. */
  alarm = (kind, on) =>
    until(`the ${kind} alarm is ${on ? "on" : "off"}`, async () => {
      const [node] = await this.api("nodes");
      return node[kind === "memory" ? "mem_alarm" : "disk_free_alarm"] === on;
    });
}
