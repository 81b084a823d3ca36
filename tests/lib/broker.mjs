// RabbitMQ in tests: the management API of any broker, and a node on this machine that a test can stop, pause and kill.

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { until } from "./wait.mjs";

const SCRIPT = fileURLToPath(new URL("../rabbitmq/rabbitmq", import.meta.url));
const run = promisify(execFile);

/** The virtual host of all rooms, encoded for a path. */
export const VHOST = encodeURIComponent("/");
/** The exchange of the room NAMESPACE/NAME. */
export const exchangeOf = (room) => `papo.${room.replace("/", ".")}`;
/** The stream of its log. */
export const logOf = (room, epoch) => `${exchangeOf(room)}.log.${epoch}`;

/** A broker's management API. */
export class Management {
  constructor(url, credentials) {
    this.api = `${url}/api`;
    this.headers = { authorization: `Basic ${Buffer.from(credentials).toString("base64")}`, "content-type": "application/json" };
  }

  /** Calls the API; returns null if the object does not exist. */
  async call(method, path, body) {
    const response = await fetch(`${this.api}/${path}`, { method, headers: this.headers, body: body && JSON.stringify(body) });
    const text = await response.text();
    if (response.status === 404) return null;
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : {};
  }

  /** The exchange of the room NAMESPACE/NAME; null if it does not exist. */
  exchange(room) {
    return this.call("GET", `exchanges/${VHOST}/${exchangeOf(room)}`);
  }

  deleteExchange(room) {
    return this.call("DELETE", `exchanges/${VHOST}/${exchangeOf(room)}`);
  }

  queue(name) {
    return this.call("GET", `queues/${VHOST}/${name}`);
  }

  deleteQueue(name) {
    return this.call("DELETE", `queues/${VHOST}/${name}`);
  }
}

/** A new node on loopback (tests/rabbitmq). */
export class LocalBroker extends Management {
  static async start() {
    const { stdout } = await run(SCRIPT, ["start"], { maxBuffer: 1 << 24 });
    const value = (name) => stdout.match(new RegExp(`^${name}=(.*)$`, "m"))[1];
    const broker = new LocalBroker(value("PAPO_TEST_MANAGEMENT"), "guest:guest");
    broker.handle = value("PAPO_TEST_RABBITMQ_HANDLE");
    broker.url = value("PAPO_TEST_AMQP");
    broker.port = Number(new URL(broker.url).port);
    return broker;
  }

  async #do(...args) {
    return (await run(SCRIPT, args, { maxBuffer: 1 << 24 })).stdout;
  }

  kill = () => this.#do("kill", this.handle);
  /** Starts the node again with its data, and waits until it serves. */
  restart = () => this.#do("restart", this.handle);
  pause = () => this.#do("pause", this.handle);
  resume = () => this.#do("resume", this.handle);
  stop = () => this.#do("stop", this.handle);
  ctl = (...args) => this.#do("ctl", this.handle, ...args);

  version = async () => (await this.call("GET", "overview")).rabbitmq_version;

  /** Waits until a resource alarm ("memory" or "disk") is on or off. */
  alarm = (kind, on) =>
    until(`the ${kind} alarm is ${on ? "on" : "off"}`, async () => {
      const [node] = await this.call("GET", "nodes");
      return node[kind === "memory" ? "mem_alarm" : "disk_free_alarm"] === on;
    });
}
