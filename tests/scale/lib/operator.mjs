// The operators of the release: what they have counted, and what they may use.

import { forward, get, kubectl } from "../../lib/cluster/kubectl.mjs";
import { OPERATOR, operators } from "../../lib/cluster/release.mjs";
import { isReady } from "../../lib/cluster/room.mjs";
import { SYSTEM } from "../../lib/cluster/settings.mjs";
import { lasting, until } from "../../lib/wait.mjs";

const PORT = 8080;
/** Counters, by the name that the table has for them. */
const COUNTERS = {
  reads: 'papo_operator_cluster_requests_total{access="read"}',
  watches: 'papo_operator_cluster_requests_total{access="watch"}',
  writes: 'papo_operator_cluster_requests_total{access="write"}',
  brokerReads: 'papo_operator_broker_requests_total{access="read"}',
  brokerWrites: 'papo_operator_broker_requests_total{access="write"}',
  reconciles: 'papo_operator_reconciles_total{outcome="success"}',
  failures: 'papo_operator_reconciles_total{outcome="failure"}',
};
/** The youngest of them. */
const COUNTERS_SINCE = "papo_operator_cluster_requests_total";
/** Seconds for which operators may show nothing, as while they start again: only a failing run waits so long. */
const SILENCE = 300;
/** Seconds without a write after which nothing more is expected to happen. */
const QUIET = 6;

export class Operators {
  #tunnels = new Map();

  static async open() {
    const opened = new Operators();
    const { spec } = await get("deployment", OPERATOR, SYSTEM);
    const [container] = spec.template.spec.containers;
    const variable = (name) => container.env.find((one) => one.name === `PAPO_OPERATOR_${name}`)?.value;
    opened.image = container.image;
    opened.memoryLimit = bytes(container.resources?.limits?.memory);
    opened.resync = Number(variable("RESYNC_PERIOD") ?? 30);
    opened.concurrency = Number(variable("CONCURRENCY") ?? 16);
    const metrics = await until("the operators show their metrics", () => opened.#all(), 60);
    if (!metrics.some((text) => text.includes(COUNTERS_SINCE))) throw new Error(`the operator ${opened.image} has no metric ${COUNTERS_SINCE}: it is older than this program`);
    return opened;
  }

  /** The pods of the operators. */
  async pods() {
    this.latest = await operators();
    return this.latest;
  }

  /** Which containers run: another value means that an operator was started again. */
  get #incarnation() {
    return this.latest.map(({ metadata, status }) => `${metadata.uid}:${status.containerStatuses?.[0]?.restartCount ?? 0}`).sort().join(" ");
  }

  /** What all operators together have counted since they started. */
  counters = () => until("the operators show their metrics", () => this.#counters(), SILENCE);

  /** The metrics of every pod, as text. */
  async #all() {
    const running = (await this.pods()).filter(({ status }) => status.phase === "Running");
    if (running.length === 0) throw new Error("no operator runs");
    return Promise.all(running.map(({ metadata }) => this.#metrics(metadata.name)));
  }

  async #counters() {
    const all = await this.#all();
    const leaders = all.filter((text) => valueOf(text, "papo_operator_leader") === 1).length;
    const sum = (name) => all.reduce((total, text) => total + valueOf(text, name), 0);
    const counted = Object.fromEntries(Object.entries(COUNTERS).map(([name, metric]) => [name, sum(metric)]));
    // Every controller has the gauge, with a label for its namespace.
    const waiting = all.flatMap((text) => text.split("\n")).filter((line) => line.startsWith("papo_operator_rooms_waiting")).reduce((total, line) => total + Number(line.split(" ").at(-1)), 0);
    return { ...counted, waiting, leaders, incarnation: this.#incarnation };
  }

  async #metrics(pod) {
    // A port-forward reaches a pod that NetworkPolicies close to everybody but Prometheus.
    const tunnel = this.#tunnels.get(pod) ?? forward(SYSTEM, `pod/${pod}`, PORT);
    this.#tunnels.set(pod, tunnel);
    try {
      const response = await fetch(`http://127.0.0.1:${(await tunnel).port}/metrics`, { signal: AbortSignal.timeout(10_000) });
      return await response.text();
    } catch (error) {
      this.#tunnels.delete(pod);
      tunnel.then(({ stop }) => stop()).catch(() => {});
      throw error;
    }
  }

  /** Waits until the operators have written nothing for some seconds and no room waits for them; returns what they have counted then. */
  async settled(seconds = 120) {
    let last;
    return await until("the operator writes nothing more", async () => {
      const now = await this.counters();
      const isQuiet = last && now.writes === last.writes && now.brokerWrites === last.brokerWrites && now.waiting === 0;
      last = now;
      if (isQuiet) return now;
      await lasting(QUIET);
    }, seconds);
  }

  /** Restarts all operators as an administrator does, and waits until a new one has reconciled this many rooms; returns what the new ones have counted. */
  async restart(rooms, seconds) {
    const old = new Set((await this.pods()).map(({ metadata }) => metadata.uid));
    const began = performance.now();
    await kubectl("-n", SYSTEM, "rollout", "restart", `deployment/${OPERATOR}`);
    await until("new operators are ready, and the old ones have gone", async () => {
      const pods = await this.pods();
      return pods.length > 0 && pods.every((pod) => isReady(pod) && !old.has(pod.metadata.uid));
    }, seconds);
    const counted = await until(`a new operator has reconciled ${rooms} rooms`, async () => {
      const now = await this.counters();
      return now.leaders === 1 && now.reconciles >= rooms && now.waiting === 0 && now;
    }, seconds);
    return { ...counted, seconds: (performance.now() - began) / 1000 };
  }

  async close() {
    for (const tunnel of this.#tunnels.values()) (await tunnel.catch(() => null))?.stop();
  }
}

/** What was counted between two measurements; null if an operator was started again meanwhile, because it counts from zero. */
export const between = (before, after) => (before.incarnation === after.incarnation ? difference(before, after) : null);
const difference = (before, after) => Object.fromEntries(Object.keys(COUNTERS).map((name) => [name, after[name] - before[name]]));

const valueOf = (text, metric) => Number(text.split("\n").find((line) => line.startsWith(`${metric} `))?.split(" ")[1] ?? 0);

const UNITS = { "": 1, k: 1e3, M: 1e6, G: 1e9, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 };
/** Bytes of a quantity such as 128Mi; undefined if there is none. */
function bytes(quantity) {
  const [, number, unit] = quantity?.match(/^(\d+)([kMG]i?|)$/) ?? [];
  return number && Number(number) * UNITS[unit];
}
