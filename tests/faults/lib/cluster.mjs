// A room in the cluster that KUBECONFIG names, behind its ingress, on the quick-start broker of the chart.

import { Broker, logOf } from "../../lib/cluster/broker.mjs";
import { toIngress } from "../../lib/cluster/ingress.mjs";
import { forward, get } from "../../lib/cluster/kubectl.mjs";
import { create, podsReady, remove, roomWithIngress, urlOf } from "../../lib/cluster/room.mjs";
import { RELEASE, SYSTEM } from "../../lib/cluster/settings.mjs";
import { readLog } from "../../lib/log.mjs";

const decode = (text) => Buffer.from(text, "base64").toString();

export class Cluster {
  /** Creates a room with three servers, ready. */
  static async start(name) {
    const place = new Cluster();
    place.name = name;
    await create(roomWithIngress(name, { replicas: 3, limits: { messagesPerSecond: 50, messageBurst: 200 } }));
    await podsReady(name, 3);
    place.broker = await Broker.open();
    place.url = urlOf(name);
    place.memberOptions = { agent: toIngress() };
    return place;
  }

  /** Reads the log through a new port-forward, because a fault may have ended the previous one. */
  async log(epoch, last) {
    const { data } = await get("secret", `${RELEASE}-rabbitmq-default-user`, SYSTEM);
    const tunnel = await forward(SYSTEM, `service/${RELEASE}-rabbitmq`, 5672);
    const credentials = [data.username, data.password].map((part) => encodeURIComponent(decode(part))).join(":");
    try {
      return await readLog(`amqp://${credentials}@127.0.0.1:${tunnel.port}/%2f`, logOf(this.name, epoch), last);
    } finally {
      tunnel.stop();
    }
  }

  async stop() {
    this.broker.close();
    await remove(this.name);
  }
}
