// Faults of the chart's broker with three nodes (rabbitmq.replicas=3). The chart's Service leads each server to any of them.

import { Broker, logOf } from "../../lib/cluster/broker.mjs";
import { get, inRooms, kubectl, livePods } from "../../lib/cluster/kubectl.mjs";
import { isReady, pods, podsReady, status } from "../../lib/cluster/room.mjs";
import { RELEASE, SYSTEM } from "../../lib/cluster/settings.mjs";
import { until } from "../../lib/wait.mjs";

const STATEFUL_SET = `${RELEASE}-rabbitmq`;
const BROKER_LABELS = `app.kubernetes.io/instance=${RELEASE},app.kubernetes.io/component=rabbitmq`;
const AT_ONCE = ["--grace-period=0", "--force", "--wait=false"];

/** The number of nodes of the chart's broker. */
export const brokerNodes = async () => (await get("statefulset", STATEFUL_SET, SYSTEM))?.spec.replicas ?? 0;

const faults = [
  {
    number: 31,
    title: "the broker's pod that leads the room's log killed without grace",
    async run({ log, members }) {
      const leader = await leaderOf(log);
      const old = await brokerPods();
      const end = Date.now();
      await kubectl("-n", SYSTEM, "delete", "pod", leader, ...AT_ONCE);
      const again = await talkedAgain(members, end);
      await brokerReady(old.filter(({ metadata }) => metadata.name === leader));
      return { end, note: `messages acknowledged again after ${again} s` };
    },
  },
  {
    number: 36,
    title: "all pods of the broker and of the room killed without grace",
    async run({ place: { name } }) {
      const [brokers, servers] = await Promise.all([brokerPods(), pods(name)]);
      const begun = Date.now();
      await Promise.all([
        kubectl("-n", SYSTEM, "delete", "pod", "-l", BROKER_LABELS, ...AT_ONCE),
        inRooms("delete", "pod", "-l", (await status(name)).selector, ...AT_ONCE),
      ]);
      await brokerReady(brokers);
      const broker = since(begun);
      await until("other servers are ready", async () => !(await podsReady(name, 3)).some(isOneOf(servers)), 300);
      return { end: Date.now(), note: `the broker was ready after ${broker} s, the servers after ${since(begun)} s` };
    },
  },
  {
    number: 38,
    title: "rolling restart of the broker, which drains node after node",
    async run({ place: { name } }) {
      const old = await brokerPods();
      const begun = Date.now();
      await kubectl("-n", SYSTEM, "rollout", "restart", `statefulset/${STATEFUL_SET}`);
      await kubectl("-n", SYSTEM, "rollout", "status", `statefulset/${STATEFUL_SET}`, "--timeout=900s");
      await brokerReady(old);
      await podsReady(name, 3);
      return { end: Date.now(), note: `the restart took ${since(begun)} s` };
    },
  },
];

/** Each fault begins and ends with a log that has three running replicas. No server may end in it, except those that the fault itself deletes. */
export default faults.map(({ run, ...fault }) => ({
  nodes: 3,
  async run(context) {
    const { place, members, expect } = context;
    const log = logOf(place.name, members[0].epoch);
    await whole(log);
    const result = await run({ ...context, log });
    for (const { metadata, status } of await podsReady(place.name, 3)) {
      const restarts = (status.containerStatuses ?? []).reduce((sum, { restartCount }) => sum + restartCount, 0);
      expect(restarts === 0, `the server ${metadata.name} has ended ${restarts} times`);
    }
    await whole(log);
    return result;
  },
  ...fault,
}));

const brokerPods = () => livePods(BROKER_LABELS, SYSTEM);
const isOneOf = (others) => (pod) => others.some(({ metadata }) => metadata.uid === pod.metadata.uid);
const since = (time) => ((Date.now() - time) / 1000).toFixed(1);

/** Waits until three nodes are ready, and none of the old pods is among them. */
const brokerReady = (old) =>
  until(
    "three other nodes of the broker are ready",
    async () => {
      const all = await brokerPods();
      return all.length === 3 && all.every(isReady) && !all.some(isOneOf(old));
    },
    600,
  );

/** What the broker says of a queue, through a new port-forward: a fault may have ended that of another. */
async function queue(name) {
  const broker = await Broker.open();
  try {
    return await broker.queue(name);
  } finally {
    broker.close();
  }
}

/** The pod whose node leads the log. */
const leaderOf = async (log) => (await queue(log)).leader.split("@")[1].split(".")[0];

/** Waits until the log has three running replicas. A node that does not answer yet is not whole. */
const whole = (log) => until("the log has three running replicas", async () => (await queue(log).catch(() => null))?.online?.length === 3, 300);

/** Waits until a message was acknowledged that was sent after `time`; returns the seconds since then, with one digit. */
async function talkedAgain(members, time) {
  const isLater = ({ at, acknowledged }) => at > time && acknowledged;
  await until("a message is acknowledged again", () => members.some(({ sent }) => sent.some(isLater)), 120);
  const times = members.flatMap(({ sent }) => sent.filter(isLater).map(({ acknowledged: { at } }) => at));
  return ((Math.min(...times) - time) / 1000).toFixed(1);
}
