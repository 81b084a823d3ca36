// Replaces the pods of a room with three servers under traffic: no message is lost or repeated, and all members see one order.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { everyoneSawEverything } from "../lib/checker.mjs";
import { join } from "../lib/cluster/ingress.mjs";
import { inRooms, kubectl } from "../lib/cluster/kubectl.mjs";
import { childOf, create, pods, podsReady, remove, roomWithIngress, urlOf } from "../lib/cluster/room.mjs";
import { ROOMS } from "../lib/cluster/settings.mjs";
import { Traffic } from "../lib/traffic.mjs";
import { until } from "../lib/wait.mjs";
import { launchBrowser } from "./windows.mjs";

const NAME = "entrega";
const MEMBERS = 9;
/** The transports that the client has if none are given, which the ingress may bring to a different server with each request. */
const DEFAULT = { transports: ["polling", "websocket"] };

/** The options of the member with this number: every second one begins with long-polling. */
const optionsOf = (number) => (number % 2 === 0 ? DEFAULT : {});

describe("a room on three servers", () => {
  let members = [];
  before(async () => {
    await create(roomWithIngress(NAME));
    members = [await join(NAME, "membro 1")];
    await inRooms("scale", "chatroom", NAME, "--replicas=3");
    await podsReady(NAME, 3);
    // The ingress chooses the server of a connection, so members join until every server has one.
    await until("members are on all three servers", async () => {
      if (members.length < 4 * MEMBERS) members.push(await join(NAME, `membro ${members.length + 1}`, optionsOf(members.length)));
      return members.length >= MEMBERS && (await busyServers()) === 3;
    });
  });
  after(async () => {
    for (const member of members) member.leave();
    await remove(NAME);
  });

  test("clients that begin with long-polling upgrade and stay", async () => {
    const begunWithPolling = members.filter((_, number) => optionsOf(number) === DEFAULT);
    await until("they have upgraded", () => begunWithPolling.every(({ socket }) => socket.io.engine.transport.name === "websocket"));
    assert.deepEqual(begunWithPolling.flatMap(({ closes }) => closes), []);
  });

  test("members on different servers see the same messages in order", async () => {
    await Promise.all(members.map((member) => Promise.all([1, 2, 3, 4, 5].map((n) => member.send(`${member.name}: ${n}`)))));
    assert.equal(await everyoneSawEverything(members), 5 * members.length);
  });

  test("two browser windows talk across servers", async (t) => {
    const browser = await launchBrowser();
    try {
      const windows = await Promise.all(["Ana", "Rui", "Eva", "Léo"].map((name) => ChatWindow.open(t, urlOf(NAME), { browser, name })));
      await windows[0].say("de um servidor para todos");
      for (const page of windows) {
        await page.sees("de um servidor para todos");
        assert.equal(await page.message("de um servidor para todos").count(), 1);
      }
      await windows[3].screenshot("three-servers");
    } finally {
      await browser.close();
    }
  });

  test("a rolling restart under traffic loses and repeats nothing", async () => {
    const before = await pods(NAME);
    await disturbed(members, async () => {
      await inRooms("rollout", "restart", `deployment/${childOf(NAME)}`);
      await replaced(before);
    });
  });

  test("a pod deleted under traffic loses and repeats nothing", async () => {
    const [victim] = await pods(NAME);
    await disturbed(members, async () => {
      await inRooms("delete", "pod", victim.metadata.name, "--wait=false");
      await replaced([victim]);
    });
  });

  test("a pod killed under traffic loses and repeats nothing", async () => {
    const [victim] = await pods(NAME);
    await disturbed(members, async () => {
      await inRooms("delete", "pod", victim.metadata.name, "--grace-period=0", "--force", "--wait=false");
      await replaced([victim]);
    });
  });

  test("scaling down under traffic loses and repeats nothing", async () => {
    await disturbed(members, async () => {
      await inRooms("scale", "chatroom", NAME, "--replicas=1");
      await podsReady(NAME, 1);
    });
  });
});

/** All members send while `disturb` runs. Afterwards every acknowledged message must have been shown to all of them, once. */
async function disturbed(members, disturb) {
  const before = members.reduce((sum, { acknowledged }) => sum + acknowledged.length, 0);
  const traffic = new Traffic(members, 4 * members.length);
  try {
    await until("traffic flows", () => members.every(({ acknowledged }) => acknowledged.length > 0));
    await disturb();
  } finally {
    await traffic.stop();
  }
  const sent = (await everyoneSawEverything(members)) - before;
  assert.ok(sent > members.length, `only ${sent} messages were sent meanwhile`);
}

/** Waits until none of these pods is left and three others are ready. */
async function replaced(old) {
  const gone = new Set(old.map(({ metadata }) => metadata.uid));
  await until("the pods were replaced", async () => (await podsReady(NAME, 3)).every(({ metadata }) => !gone.has(metadata.uid)), 180);
}

/** The number of servers that report a connection in `/stats`. */
async function busyServers() {
  const counts = await Promise.all(
    (await pods(NAME)).map(async ({ metadata: { name } }) => {
      const stats = await kubectl("get", "--raw", `/api/v1/namespaces/${ROOMS}/pods/${name}:5001/proxy/stats`);
      return JSON.parse(stats).connections;
    }),
  );
  return counts.filter((count) => count > 0).length;
}
