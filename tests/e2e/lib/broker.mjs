// What is really on the broker: RabbitMQ's management API, reached through a port-forward.

import { forward, get } from "./kubectl.mjs";
import { RELEASE, ROOMS, SYSTEM } from "./settings.mjs";

const VHOST = encodeURIComponent("/");
const decode = (text) => Buffer.from(text, "base64").toString();

/** The management API of the release's quick-start broker. */
export class Broker {
  static async open() {
    const { data } = await get("secret", `${RELEASE}-rabbitmq-default-user`, SYSTEM);
    const tunnel = await forward(SYSTEM, `service/${RELEASE}-rabbitmq`, 15672);
    return new Broker(tunnel, `${decode(data.username)}:${decode(data.password)}`);
  }

  constructor(tunnel, credentials) {
    this.tunnel = tunnel;
    this.base = `http://127.0.0.1:${tunnel.port}/api`;
    this.headers = { authorization: `Basic ${Buffer.from(credentials).toString("base64")}`, "content-type": "application/json" };
  }

  close() {
    this.tunnel.stop();
  }

  /** One call; null when there is no such object. */
  async call(method, path, body) {
    const response = await fetch(`${this.base}/${path}`, { method, headers: this.headers, body: body && JSON.stringify(body) });
    if (response.status === 404) return null;
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : {};
  }

  exchange(room) {
    return this.call("GET", `exchanges/${VHOST}/${exchangeOf(room)}`);
  }

  queue(name) {
    return this.call("GET", `queues/${VHOST}/${name}`);
  }

  /** The bindings from the room's exchange. */
  async bindings(room) {
    return (await this.call("GET", `exchanges/${VHOST}/${exchangeOf(room)}/bindings/source`)) ?? [];
  }

  deleteExchange(room) {
    return this.call("DELETE", `exchanges/${VHOST}/${exchangeOf(room)}`);
  }

  deleteQueue(name) {
    return this.call("DELETE", `queues/${VHOST}/${name}`);
  }

  deleteBinding(room, { destination, properties_key: key }) {
    return this.call("DELETE", `bindings/${VHOST}/e/${exchangeOf(room)}/q/${destination}/${encodeURIComponent(key)}`);
  }

  /** Names of everything on the broker that belongs to the room, of any kind. */
  async belongings(room) {
    const kinds = { exchange: `exchanges/${VHOST}`, queue: `queues/${VHOST}`, user: "users", policy: `policies/${VHOST}` };
    const owned = Object.entries(kinds).map(async ([kind, path]) => {
      const names = (await this.call("GET", path)).map(({ name }) => name);
      return names.filter((name) => isOf(room, name)).map((name) => `${kind} ${name}`);
    });
    return (await Promise.all(owned)).flat();
  }
}

/** `papo.NS.NAME`, as the design has it. */
export const exchangeOf = (room) => `papo.${ROOMS}.${room}`;
/** The stream that is the room's log. */
export const logOf = (room, epoch) => `${exchangeOf(room)}.log.${epoch}`;

const isOf = (room, name) => name === exchangeOf(room) || name.startsWith(`${exchangeOf(room)}.`);
