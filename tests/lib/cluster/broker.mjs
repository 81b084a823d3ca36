// The objects on the cluster's broker: RabbitMQ's management API, through a port-forward.

import { Management, VHOST, exchangeOf as exchange, logOf as log } from "../broker.mjs";
import { forward, get } from "./kubectl.mjs";
import { RELEASE, ROOMS, SYSTEM } from "./settings.mjs";

const decode = (text) => Buffer.from(text, "base64").toString();
const inNamespace = (room) => `${ROOMS}/${room}`;
/** The exchange of a room in the rooms' namespace. */
export const exchangeOf = (room) => exchange(inNamespace(room));
/** The stream of its log. */
export const logOf = (room, epoch) => log(inNamespace(room), epoch);

/** The quick-start broker of the release. */
export class Broker extends Management {
  static async open() {
    const { data } = await get("secret", `${RELEASE}-rabbitmq-default-user`, SYSTEM);
    const tunnel = await forward(SYSTEM, `service/${RELEASE}-rabbitmq`, 15672);
    const broker = new Broker(`http://127.0.0.1:${tunnel.port}`, `${decode(data.username)}:${decode(data.password)}`);
    broker.close = tunnel.stop;
    return broker;
  }

  exchange = (room) => super.exchange(inNamespace(room));
  deleteExchange = (room) => super.deleteExchange(inNamespace(room));

  /** The bindings from the room's exchange. */
  async bindings(room) {
    return (await this.call("GET", `exchanges/${VHOST}/${exchangeOf(room)}/bindings/source`)) ?? [];
  }

  deleteUser(room) {
    return this.call("DELETE", `users/${exchangeOf(room)}`);
  }

  deleteQueue(name) {
    return this.call("DELETE", `queues/${VHOST}/${name}`);
  }

  deleteBinding(room, { destination, properties_key: key }) {
    return this.call("DELETE", `bindings/${VHOST}/e/${exchangeOf(room)}/q/${destination}/${encodeURIComponent(key)}`);
  }

  /** All objects on the broker that belong to the room, as `KIND NAME`. */
  async belongings(room) {
    const kinds = { exchange: `exchanges/${VHOST}`, queue: `queues/${VHOST}`, user: "users", policy: `policies/${VHOST}` };
    const owned = Object.entries(kinds).map(async ([kind, path]) => {
      const names = (await this.call("GET", path)).map(({ name }) => name);
      return names.filter((name) => isOf(room, name)).map((name) => `${kind} ${name}`);
    });
    return (await Promise.all(owned)).flat();
  }
}

const isOf = (room, name) => name === exchangeOf(room) || name.startsWith(`${exchangeOf(room)}.`);
