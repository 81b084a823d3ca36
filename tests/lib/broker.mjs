// RabbitMQ in tests: the management API of any broker, and nodes on this machine that a test can stop, pause and kill.

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

/** Runs tests/rabbitmq; returns what it prints. */
const rabbitmq = async (...args) => (await run(SCRIPT, args, { maxBuffer: 1 << 24 })).stdout;

/** Starts a node or a cluster; returns a function that reads the variables of its nodes, each with a value per node. */
async function start(...options) {
  const stdout = await rabbitmq("start", ...options);
  return (name) => stdout.match(new RegExp(`^PAPO_TEST_${name}=(.*)$`, "m"))[1].split(",");
}

/** A node on loopback (tests/rabbitmq). */
class LocalNode extends Management {
  /** Whether it was killed, paused or cut off, and not restarted, resumed or mended. */
  isAway = false;

  constructor(handle, url, management) {
    super(management, "guest:guest");
    Object.assign(this, { handle, url, port: Number(new URL(url).port) });
  }

  /** Its name among Erlang's nodes. */
  get name() {
    return `papo-${this.port}@localhost`;
  }

  async #leave(command) {
    this.isAway = true;
    await rabbitmq(command, this.handle);
  }

  async #return(command) {
    await rabbitmq(command, this.handle);
    this.isAway = false;
  }

  kill = () => this.#leave("kill");
  /** Starts the node again with its data, and waits until it serves. */
  restart = () => this.#return("restart");
  pause = () => this.#leave("pause");
  resume = () => this.#return("resume");
  /** Stops the node and deletes its data. */
  stop = () => this.#leave("stop");
  ctl = (...args) => rabbitmq("ctl", this.handle, ...args);

  version = async () => (await this.call("GET", "overview")).rabbitmq_version;

  /** Waits until a resource alarm ("memory" or "disk") is on or off. */
  alarm = (kind, on) =>
    until(`the ${kind} alarm is ${on ? "on" : "off"}`, async () => {
      const [node] = await this.call("GET", "nodes");
      return node[kind === "memory" ? "mem_alarm" : "disk_free_alarm"] === on;
    });
}

/** A new broker with a single node. */
export class LocalBroker extends LocalNode {
  static async start() {
    const values = await start();
    return new LocalBroker(...["RABBITMQ_HANDLE", "AMQP", "MANAGEMENT"].map((name) => values(name)[0]));
  }
}

/** A node of a cluster. */
class ClusterNode extends LocalNode {
  /** Drops all packets between this node and the others, or lets them pass again. Clients still reach every node. */
  async cut() {
    this.isAway = true;
    await rabbitmq("cut", this.handle);
  }

  async mend() {
    await rabbitmq("mend", this.handle);
    this.isAway = false;
  }

  /**
   * Lets a node that has lost its data join the coordinator of streams again. The coordinator counts it as a member that it no longer is,
   * so nobody can read a stream from that node until this node removes it; the coordinator then adds it again.
   */
  removeFromCoordinator = ({ name }) => this.ctl("eval", `ra:remove_member({rabbit_stream_coordinator, node()}, {rabbit_stream_coordinator, '${name}'}).`);

  /** rabbitmq-streams */
  streams = (...args) => rabbitmq("streams", this.handle, ...args);
}

/**
 * Seconds of silence after which the nodes of a cluster give up another one (`net_ticktime`, plus or minus a quarter). The log of a
 * silent node gets another leader only then. RabbitMQ's own value is 60.
 */
export const NET_TICK_TIME = 15;

/** A new cluster of nodes on loopback. Its API is that of the first node that is not away. */
export class LocalCluster extends Management {
  static async start(count = 3) {
    const values = await start("--nodes", String(count), "--conf", `net_ticktime = ${NET_TICK_TIME}`);
    const [handles, urls, apis] = ["RABBITMQ_HANDLES", "AMQP_NODES", "MANAGEMENT_NODES"].map(values);
    const cluster = new LocalCluster(apis[0], "guest:guest");
    [cluster.handle] = values("RABBITMQ_HANDLE");
    cluster.nodes = handles.map((handle, n) => new ClusterNode(handle, urls[n], apis[n]));
    return cluster;
  }

  call(...args) {
    return this.nodes.find(({ isAway }) => !isAway).call(...args);
  }

  /** Waits until a stream has a leader that is not away; returns the leader. */
  leader(stream) {
    return until(`${stream} has a leader`, async () => {
      const { leader } = await this.queue(stream);
      return this.nodes.find(({ name, isAway }) => name === leader && !isAway);
    });
  }

  /** Waits until every node runs a replica of the stream that has all that its leader has committed by now; returns the seconds. */
  async inSync(stream, seconds = 120) {
    const begun = performance.now();
    const there = this.nodes.filter(({ isAway }) => !isAway);
    let turn = 0;
    const replicas = async () => {
      // A node that has lost its data cannot tell, because it has no coordinator of streams. So each try asks another node.
      const node = there[turn++ % there.length];
      return JSON.parse(await node.streams("stream_status", stream, "--formatter", "json"));
    };
    let due;
    await until(
      `every node has a whole replica of ${stream}`,
      async () => {
        const found = await replicas();
        due ??= found.find(({ role }) => role === "writer")?.committed_offset;
        if (found.length === this.nodes.length && found.every(({ offset }) => offset >= due)) return true;
        throw new Error(`${due} is due: ${found.map(({ node: name, role, offset }) => `${role} ${name} has ${offset}`).join(", ")}`);
      },
      seconds,
    );
    return (performance.now() - begun) / 1000;
  }

  /** Ends everything that a test did to the nodes, and waits until all nodes run. */
  async whole() {
    for (const node of this.nodes) {
      if (!node.isAway) continue;
      await node.mend();
      await rabbitmq("resume", node.handle).catch(() => node.restart());
    }
    await until("all nodes run", async () => {
      const nodes = await this.call("GET", "nodes");
      return nodes.length === this.nodes.length && nodes.every(({ running }) => running);
    });
  }

  version = () => this.nodes[0].version();
  stop = () => rabbitmq("stop", this.handle);
}
