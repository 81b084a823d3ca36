// The rooms of one run, in namespaces of their own: creates them, and knows from one watch when each became ready and when it was gone.

import { kubectl } from "../../lib/cluster/kubectl.mjs";
import { Watch } from "../../lib/cluster/watch.mjs";

const API = "/apis/papo.chat/v1alpha1";
/** Label of the namespaces and rooms of a run. Its value is the run's name. */
export const LABEL = "papo-tests/scale";
const ROOMS_PER_NAMESPACE = 100;
/** Requests of this program that wait for the API server at the same time. */
const CONCURRENCY = 16;

const nameOf = ({ metadata: { namespace, name } }) => `${namespace}/${name}`;
const isReady = ({ status, metadata }) => {
  const ready = status?.conditions?.find(({ type }) => type === "Ready");
  return ready?.status === "True" && ready.observedGeneration === metadata.generation;
};

export class Rooms {
  /** By NAMESPACE/NAME: { created, ready, gone: times in ms; isReady; generation; lapses: how often it stopped being ready }. */
  all = new Map();

  static async start(api, run, count, replicas) {
    const rooms = new Rooms();
    Object.assign(rooms, { api, run, replicas });
    rooms.namespaces = Array.from({ length: Math.ceil(count / ROOMS_PER_NAMESPACE) }, (_, n) => `papo-scale-${run}-${n + 1}`);
    rooms.names = Array.from({ length: count }, (_, n) => `${rooms.namespaces[Math.floor(n / ROOMS_PER_NAMESPACE)]}/room-${n + 1}`);
    for (const name of rooms.namespaces) await api.create("/api/v1/namespaces", { metadata: { name, labels: { [LABEL]: run } } });
    rooms.watch = await Watch.start(api, `${API}/chatrooms`, `${LABEL}=${run}`, (type, object) => rooms.#seen(type, object));
    return rooms;
  }

  #seen(type, object) {
    const room = this.all.get(nameOf(object));
    if (!room) return;
    const now = performance.now();
    if (type === "DELETED") {
      room.gone = now;
      return;
    }
    const was = room.isReady;
    room.isReady = isReady(object);
    room.generation = object.metadata.generation;
    room.message = object.status?.conditions?.find(({ type }) => type === "Ready")?.message;
    if (room.isReady) room.ready ??= now;
    // A changed room is not ready until the operator has seen the change.
    else if (was && room.generation === object.status?.conditions?.[0]?.observedGeneration) room.lapses++;
  }

  /** Creates all rooms, as fast as the API server takes them. */
  async create() {
    await concurrently(this.names, async (key) => {
      const [namespace, name] = key.split("/");
      this.all.set(key, { created: performance.now(), lapses: 0, isReady: false });
      await this.api.create(`${API}/namespaces/${namespace}/chatrooms`, {
        apiVersion: "papo.chat/v1alpha1",
        kind: "ChatRoom",
        metadata: { name, labels: { [LABEL]: this.run } },
        spec: { replicas: this.replicas, deletionPolicy: "Delete" },
      });
    });
  }

  /** Changes the title of the first room; returns the room's new generation. */
  async change() {
    const [namespace, name] = this.names[0].split("/");
    const { metadata } = await this.api.patch(`${API}/namespaces/${namespace}/chatrooms/${name}`, { spec: { title: `Changed by ${this.run}` } });
    return metadata.generation;
  }

  /** Asks for the deletion of all rooms, one request for each namespace; returns when it began. */
  async delete() {
    const began = performance.now();
    await concurrently(this.namespaces, (namespace) => this.api.delete(`${API}/namespaces/${namespace}/chatrooms`));
    return began;
  }

  get ready() {
    return this.#count(({ isReady }) => isReady);
  }

  get gone() {
    return this.#count(({ gone }) => gone);
  }

  get first() {
    return this.all.get(this.names[0]);
  }

  #count(is) {
    let count = 0;
    for (const room of this.all.values()) if (is(room)) count++;
    return count;
  }
}

/** Deletes the rooms and namespaces of a run, or of all runs, and waits until they are gone. It works without the watch, also after an interruption. */
export async function cleanUp(run) {
  const selector = run ? `${LABEL}=${run}` : LABEL;
  const left = (await kubectl("get", "namespaces", "-l", selector, "-o", "name")).trim();
  if (!left) return;
  await kubectl("delete", "chatrooms", "-A", "-l", selector, "--ignore-not-found", "--timeout=15m");
  await kubectl("delete", "namespaces", "-l", selector, "--ignore-not-found", "--timeout=10m");
}

/** Does `work` for each item, a few at the same time. */
async function concurrently(items, work) {
  const left = items.values();
  await Promise.all(
    Array.from({ length: CONCURRENCY }, async () => {
      for (const item of left) await work(item);
    }),
  );
}
