// Kills a worker node with two of a room's three servers and the leading operator on it, under traffic.
//
// The test needs a cluster with at least two workers, and commands that kill a node and start it again. With kind:
//   manifests/kind.sh --workers 2
//   PAPO_E2E_KILL_NODE="docker kill" PAPO_E2E_START_NODE="docker start" make e2e ARGS=11-node-loss.test.mjs
// The test never kills the node with the quick-start broker, because that broker has a single node.

import assert from "node:assert/strict";
import { exec } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";

import { everyoneSawEverything } from "../lib/checker.mjs";
import { join } from "../lib/cluster/ingress.mjs";
import { get, inRooms, kubectl } from "../lib/cluster/kubectl.mjs";
import { OPERATOR, operators, scaleOperator } from "../lib/cluster/release.mjs";
import { create, isReady, pods, podsReady, ready, remove, roomWithIngress, status } from "../lib/cluster/room.mjs";
import { KILL_NODE, RELEASE, START_NODE, SYSTEM } from "../lib/cluster/settings.mjs";
import { Traffic } from "../lib/traffic.mjs";
import { until } from "../lib/wait.mjs";

const NAME = "no-perdido";
const MEMBERS = 9;
/** Seconds within which the status must show the loss. */
const STATUS_SECONDS = 60;
const skip = (KILL_NODE && START_NODE ? "" : "PAPO_E2E_KILL_NODE and PAPO_E2E_START_NODE are not set") || ((await workers()).length < 2 ? "the cluster has less than two workers" : false);

describe("the loss of a node", { skip }, () => {
  let members = [];
  let victim;
  let operatorReplicas;
  before(async () => {
    const home = (await get("pod", `${RELEASE}-rabbitmq-0`, SYSTEM)).spec.nodeName;
    victim = (await workers()).find((node) => node !== home);
    ({ replicas: operatorReplicas } = (await get("deployment", OPERATOR, SYSTEM)).spec);
    if (operatorReplicas < 2) await scaleOperator(2);
    // The other node is cordoned, so two of the three servers run on the node that will be killed.
    await kubectl("cordon", home);
    try {
      await create(roomWithIngress(NAME, { replicas: 2 }));
    } finally {
      await kubectl("uncordon", home);
    }
    await inRooms("scale", "chatroom", NAME, "--replicas=3");
    await podsReady(NAME, 3);
    await leaderOn(victim);
    for (let n = 1; n <= MEMBERS; n++) members.push(await join(NAME, `membro ${n}`));
  });
  after(async () => {
    for (const member of members) member.leave();
    if (victim) {
      await run(`${START_NODE} ${victim}`).catch(() => {});
      await until(`${victim} is ready again`, async () => isReady(await get("node", victim, SYSTEM)), 180);
    }
    if (operatorReplicas < 2) await scaleOperator(operatorReplicas);
    await remove(NAME, 120);
  });

  test("members lose nothing, and the room recovers", async (t) => {
    const lost = (await pods(NAME)).filter(({ spec }) => spec.nodeName === victim);
    assert.equal(lost.length, 2, "two of three servers are on the node");
    const silence = longestSilence(members);
    const traffic = new Traffic(members, 2 * members.length);
    let began;
    const since = () => ((Date.now() - began) / 1000).toFixed(1);
    try {
      await until("traffic flows", () => members.every(({ acknowledged }) => acknowledged.length > 0));
      silence.start();
      await run(`${KILL_NODE} ${victim}`);
      began = Date.now();
      // Messages that were under way when the node was killed do not count.
      const heard = until("every member is shown messages again", () => silence.hears(began + 1000), 240).then(() => since());
      heard.catch(() => {});
      const shown = await until("the status shows the loss", async () => {
        const now = await status(NAME);
        return now.readyReplicas < 3 && now;
      }, 4 * STATUS_SECONDS);
      const statusAfter = Number(since());
      t.diagnostic(`${statusAfter} s until the status showed the loss: ${shown.readyReplicas} ready; ${inWords(shown.conditions)}`);
      await until("the servers have left the lost node", async () => {
        const now = await pods(NAME);
        return now.length === 3 && now.every(({ spec }) => spec.nodeName && spec.nodeName !== victim);
      }, 240);
      t.diagnostic(`${since()} s until the servers were placed on other nodes`);
      await until("three servers are ready again", async () => (await status(NAME)).readyReplicas === 3 && (await pods(NAME)).filter(isReady).length === 3, 240);
      t.diagnostic(`${since()} s until 3 of 3 servers were ready`);
      await ready(NAME);
      t.diagnostic(`${await heard} s until every member was shown messages again`);
      assert.ok(statusAfter <= STATUS_SECONDS, `the status showed the loss after ${statusAfter} s`);
    } finally {
      await traffic.stop();
    }
    const sent = await everyoneSawEverything(members, 90);
    t.diagnostic(`${sent} messages acknowledged; longest silence of a member ${silence.seconds().toFixed(1)} s`);
  });
});

/** Names of the nodes that are not part of the control plane. */
async function workers() {
  return (await kubectl("get", "nodes", "-l", "!node-role.kubernetes.io/control-plane", "-o", "name")).split("\n").filter(Boolean).map((name) => name.replace("node/", ""));
}

/** Deletes leaders until one on this node leads and another operator is ready on another node. */
async function leaderOn(node) {
  await until(`an operator on ${node} leads`, async () => {
    const all = await operators();
    if (all.length < 2 || !all.every(isReady)) return false;
    const { holderIdentity } = (await get("lease", OPERATOR, SYSTEM)).spec;
    const leader = all.find(({ metadata }) => metadata.name === holderIdentity);
    if (!leader) return false;
    if (leader.spec.nodeName === node && all.some(({ spec }) => spec.nodeName !== node)) return true;
    await kubectl("-n", SYSTEM, "delete", "pod", leader.metadata.name);
    return false;
  }, 180);
}

/** Measures the longest time for which a member was shown no message. */
function longestSilence(members) {
  const last = new Map();
  let longest = 0;
  const hear = (member) => {
    const now = Date.now();
    if (last.has(member)) longest = Math.max(longest, now - last.get(member));
    last.set(member, now);
  };
  return {
    start() {
      for (const member of members) {
        last.set(member, Date.now());
        for (const event of ["message", "history"]) member.socket.on(event, () => hear(member));
      }
    },
    /** Whether every member was shown a message after this moment. */
    hears: (moment) => members.every((member) => last.get(member) > moment),
    seconds: () => longest / 1000,
  };
}

const inWords = (conditions) => conditions.map(({ type, status, reason }) => `${type}=${status} (${reason})`).join(", ");
const run = promisify(exec);
