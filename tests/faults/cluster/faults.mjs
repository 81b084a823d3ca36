// Faults in a cluster: of pods, the broker's pod, the operator and the room.

import { Broker, logOf } from "../../lib/cluster/broker.mjs";
import { get, inRooms, kubectl } from "../../lib/cluster/kubectl.mjs";
import { OPERATOR_LABELS, operators } from "../../lib/cluster/release.mjs";
import { childOf, children, pods, podsReady, ready, remove, status } from "../../lib/cluster/room.mjs";
import { RELEASE, SYSTEM } from "../../lib/cluster/settings.mjs";
import { lasting, until } from "../../lib/wait.mjs";

export default [
  {
    number: 1,
    title: "a pod killed without grace",
    within: 5,
    async run({ place: { name } }) {
      const [{ metadata }] = await pods(name);
      const end = Date.now();
      await inRooms("delete", "pod", metadata.name, "--grace-period=0", "--force", "--wait=false");
      await replaced(name, [metadata.uid]);
      return { end };
    },
  },
  {
    number: 2,
    title: "a pod deleted",
    within: 5,
    async run({ place: { name } }) {
      const [{ metadata }] = await pods(name);
      await inRooms("delete", "pod", metadata.name);
      const end = Date.now();
      await replaced(name, [metadata.uid]);
      return { end };
    },
  },
  {
    number: 3,
    title: "the broker's pod killed without grace",
    async run() {
      const pod = `${RELEASE}-rabbitmq-0`;
      const { metadata } = await get("pod", pod, SYSTEM);
      await kubectl("-n", SYSTEM, "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false");
      await until("another pod exists", async () => ((await get("pod", pod, SYSTEM))?.metadata.uid ?? metadata.uid) !== metadata.uid, 60);
      await kubectl("-n", SYSTEM, "wait", "--for=condition=Ready", `pod/${pod}`, "--timeout=180s");
      return { end: Date.now() };
    },
  },
  {
    number: 18,
    title: "rolling restart of all pods",
    async run({ place: { name } }) {
      const old = (await pods(name)).map(({ metadata }) => metadata.uid);
      await inRooms("rollout", "restart", `deployment/${childOf(name)}`);
      await replaced(name, old);
      return { end: Date.now() };
    },
  },
  {
    number: 20,
    title: "the room deleted while in use",
    ends: true,
    async run({ place: { name }, members, expect }) {
      await remove(name, 120);
      const broker = await Broker.open();
      try {
        const left = await broker.belongings(name);
        expect(left.length === 0, `left on the broker: ${left}`);
      } finally {
        broker.close();
      }
      const silent = members.filter(({ drained }) => drained === 0);
      expect(silent.length === 0, `${silent.length} members got no draining event`);
      return { note: "all members got `draining`, and nothing is left on the broker" };
    },
  },
  {
    number: "21a",
    title: "the room's exchange deleted by somebody else",
    async run({ place: { name, broker } }) {
      await broker.deleteExchange(name);
      await until("the exchange is back", () => broker.exchange(name), 90);
      return { end: Date.now() };
    },
  },
  {
    number: "21b",
    title: "the room's log deleted by somebody else",
    async run({ place: { name, broker }, members }) {
      const { epoch } = await status(name);
      await broker.deleteQueue(logOf(name, epoch));
      const begun = Date.now();
      await until("all members are in the new epoch", () => members.every((member) => member.epoch !== epoch), 120);
      return { end: Date.now(), note: `all members were in the new epoch after ${((Date.now() - begun) / 1000).toFixed(1)} s` };
    },
  },
  {
    number: 22,
    title: "the operator killed again and again while it works",
    async run({ place: { name }, expect }) {
      for (let round = 1; round <= 6; round++) {
        const spec = { title: `Round ${round}`, retention: { maxBytes: `${50 + round}M` } };
        await inRooms("patch", "chatroom", name, "--type=merge", "-p", JSON.stringify({ spec }));
        // Each round kills the operator later in the reconcile of the change.
        await lasting(round * 0.15);
        await kubectl("-n", SYSTEM, "delete", "pod", "-l", OPERATOR_LABELS, "--grace-period=0", "--force", "--wait=false");
        await until("an operator runs", async () => (await operators()).some(({ status }) => status.phase === "Running"), 60);
      }
      const { metadata } = await get("chatroom", name);
      await until("the last change is reconciled", async () => (await status(name)).conditions?.find(({ type }) => type === "Ready")?.observedGeneration === metadata.generation, 120);
      await ready(name);
      await podsReady(name, 3);
      const kinds = (await children(name)).map(({ kind }) => kind);
      expect(new Set(kinds).size === kinds.length, `the room has several children of one kind: ${kinds}`);
      return { end: Date.now() };
    },
  },
  {
    number: 23,
    title: "the room's broker password lost and replaced",
    async run({ place: { name } }) {
      const secret = (await children(name)).find(({ kind }) => kind === "Secret").metadata;
      await inRooms("delete", "secret", secret.name);
      await until("the operator has created another Secret", async () => ((await get("secret", secret.name))?.metadata.uid ?? secret.uid) !== secret.uid, 60);
      const broker = await Broker.open();
      try {
        // Closes the connections that were opened with the old password.
        for (const { name: connection, user } of await broker.call("GET", "connections")) {
          if (user.includes(name)) await broker.call("DELETE", `connections/${encodeURIComponent(connection)}`);
        }
      } finally {
        broker.close();
      }
      await until("the servers are ready with the new password", () => podsReady(name, 3), 150);
      return { end: Date.now() };
    },
  },
];

/** Waits until these pods are gone and three others are ready. */
async function replaced(name, old) {
  await until("the pods were replaced", async () => (await podsReady(name, 3)).every(({ metadata }) => !old.includes(metadata.uid)), 180);
}
