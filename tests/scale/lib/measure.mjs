// The steps of a run: all rooms are created, left alone, one of them is changed, the operator is restarted, all are deleted.

import { Broker } from "../../lib/cluster/broker.mjs";
import { kubectl } from "../../lib/cluster/kubectl.mjs";
import { lasting } from "../../lib/wait.mjs";
import { inCluster, onBroker, total } from "./leftovers.mjs";
import { Operators, between } from "./operator.mjs";
import { progress } from "./progress.mjs";
import { Rooms } from "./rooms.mjs";
import { processor, sampled, usage } from "./usage.mjs";

/** Seconds between two looks for what is left: each lists all objects. */
const LOOK_AGAIN = 3;
const seconds = (began, ended) => (ended - began) / 1000;

/** Makes all measurements; returns the figures. */
export async function measure(api, settings, cluster) {
  const operators = await Operators.open();
  const broker = await Broker.open();
  let rooms;
  try {
    const others = (await kubectl("get", "chatrooms", "-A", "-o", "name")).split("\n").filter(Boolean).length;
    const { memoryLimit, resync, concurrency } = operators;
    const figures = { ...settings, others, cluster, broker: (await broker.call("GET", "overview")).rabbitmq_version, operator: { memoryLimit, resync, concurrency } };
    figures.before = await usage(api);
    rooms = await Rooms.start(api, settings.run, settings.rooms, settings.servers ? 1 : 0);
    const context = { api, operators, broker, rooms, settings };
    figures.creation = await creation(context);
    figures.objects = await onBroker(broker, rooms.namespaces);
    figures.rest = await rest(context);
    figures.change = await change(context, figures.rest);
    figures.restart = await restart(context, settings.rooms + others);
    if (!settings.keep) figures.deletion = await deletion(context);
    return figures;
  } finally {
    rooms?.watch.stop();
    broker.close();
    await operators.close();
    api.close();
  }
}

async function creation({ api, operators, rooms, settings }) {
  const before = await operators.counters();
  const memory = sampled(api);
  const began = performance.now();
  const show = progress(() => `${rooms.ready} of ${settings.rooms} rooms are Ready`);
  await rooms.create();
  await rooms.watch.until(() => rooms.ready === settings.rooms, settings.limit);
  show.stop();
  const after = await operators.settled().catch(() => operators.counters());
  const all = [...rooms.all.values()];
  return {
    counted: between(before, after),
    seconds: all.map(({ created, ready }) => (ready ? seconds(created, ready) : Infinity)),
    all: Math.max(...all.map(({ ready }) => (ready ? seconds(began, ready) : Infinity))),
    ready: rooms.ready,
    lapses: all.reduce((sum, { lapses }) => sum + lapses, 0),
    message: all.find(({ isReady }) => !isReady)?.message,
    peak: await memory.stop(),
  };
}

/** Leaves the rooms alone. The two measurements are the only requests of this program in that time. */
async function rest({ api, operators, settings }) {
  await caughtUp(settings.limit);
  const [before, usedBefore, began] = [await operators.counters(), await usage(api), performance.now()];
  const show = progress(() => `measuring ${settings.rest} s without any change`);
  await lasting(settings.rest);
  show.stop();
  const [after, used] = [await operators.counters(), await usage(api)];
  return { counted: between(before, after), seconds: seconds(began, performance.now()), memory: used, processor: processor(usedBefore, used) };
}

/** Waits until the controller of Deployments has observed all of them: rooms without servers are Ready before, and it observes about five in a second. */
async function caughtUp(limit) {
  let behind = "some";
  const show = progress(() => `${behind} Deployments are not observed by their controller yet`);
  try {
    for (const began = performance.now(); ; await lasting(LOOK_AGAIN)) {
      const versions = await kubectl("get", "deployments", "-A", "-l", "papo.chat/room", "-o", "jsonpath={range .items[*]}{.metadata.generation}/{.status.observedGeneration} {end}");
      behind = versions.split(" ").filter((pair) => pair && new Set(pair.split("/")).size === 2).length;
      if (behind === 0) return;
      if (seconds(began, performance.now()) > limit) throw new Error(`${behind} Deployments were not observed by their controller within ${limit} s`);
    }
  } finally {
    show.stop();
  }
}

/** Changes a room, and waits for everything that follows; meanwhile the other rooms cost what they cost at rest, which is taken off. */
async function change({ operators, rooms, settings }, atRest) {
  const before = await operators.counters();
  const began = performance.now();
  const generation = await rooms.change();
  const isDone = await rooms.watch.until(() => rooms.first.isReady && rooms.first.generation === generation, settings.limit);
  const took = seconds(began, performance.now());
  const all = between(before, await operators.settled());
  const share = seconds(began, performance.now()) / atRest.seconds;
  const beyond = ([name, count]) => [name, Math.max(0, count - atRest.counted[name] * share)];
  return { counted: all && atRest.counted && Object.fromEntries(Object.entries(all).map(beyond)), seconds: isDone ? took : Infinity };
}

async function restart({ api, operators, settings }, count) {
  const memory = sampled(api);
  const show = progress(() => "restarting the operator");
  try {
    // The new operators count from zero.
    const { seconds, ...counted } = await operators.restart(count, settings.limit);
    return { counted, seconds, peak: await memory.stop() };
  } catch (error) {
    return { seconds: Infinity, message: error.message, peak: await memory.stop() };
  } finally {
    show.stop();
  }
}

async function deletion({ api, operators, broker, rooms, settings }) {
  const before = await operators.counters();
  const memory = sampled(api);
  const show = progress(() => `${rooms.gone} of ${settings.rooms} rooms are gone`);
  const began = await rooms.delete();
  await rooms.watch.until(() => rooms.gone === settings.rooms, settings.limit);
  show.stop();
  const [left, after] = await Promise.all([leftovers(broker, rooms.namespaces, settings.limit), operators.settled().catch(() => operators.counters())]);
  const gone = [...rooms.all.values()].map(({ gone }) => (gone ? seconds(began, gone) : Infinity));
  return {
    counted: between(before, after),
    seconds: gone,
    all: Math.max(...gone),
    gone: rooms.gone,
    peak: await memory.stop(),
    ...left,
  };
}

/** Kubernetes' garbage collection removes a room's objects after the room, and the operator may still be at work on a slow broker. */
async function leftovers(broker, namespaces, limit) {
  for (const began = performance.now(); ; await lasting(LOOK_AGAIN)) {
    const left = { onBroker: await onBroker(broker, namespaces), inCluster: await inCluster(namespaces) };
    const isNone = total(left.onBroker) + total(left.inCluster) === 0;
    if (isNone || seconds(began, performance.now()) > limit) return left;
  }
}
