// In a steady state the operator writes nothing to the API server and nothing to the broker.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { kubectl } from "../lib/cluster/kubectl.mjs";
import { get } from "../lib/cluster/kubectl.mjs";
import { children, create, remove, room } from "../lib/cluster/room.mjs";
import { RELEASE, SYSTEM } from "../lib/cluster/settings.mjs";

const NAMES = ["estavel-1", "estavel-2", "estavel-3"];
const SECONDS = Number(process.env.PAPO_E2E_STEADY_SECONDS ?? 75);
const OURS = /resource="(chatrooms|deployments|services|secrets|poddisruptionbudgets|networkpolicies|ingresses|httproutes)"/;

describe("a steady state", () => {
  let before_;
  let after_;
  before(async () => {
    for (const name of NAMES) await create(room(name));
    await settled();
    before_ = await measure();
    // The test measures a period of time, so there is no condition to wait for.
    await sleep(SECONDS * 1000);
    after_ = await measure();
  });
  after(() => Promise.all(NAMES.map((name) => remove(name))));

  test("no object of a room changes", () => assert.deepEqual(after_.versions, before_.versions));
  test("the operator writes nothing to the API server", () => assert.deepEqual(after_.apiWrites, before_.apiWrites));
  test("the operator writes nothing to the broker", () => assert.deepEqual(after_.brokerWrites, before_.brokerWrites));
});

async function measure() {
  return { versions: await versions(), apiWrites: await apiWrites(), brokerWrites: await brokerWrites() };
}

/** Waits until the rooms no longer change: two measurements, 5 s apart, are equal. */
async function settled() {
  for (let last = "", tries = 0; tries < 24; tries++) {
    const now = JSON.stringify([await versions(), await brokerWrites(), await apiWrites()]);
    if (now === last) return;
    last = now;
    await sleep(5000);
  }
  throw new Error("the rooms still change after two minutes");
}

async function versions() {
  const rooms = await Promise.all(NAMES.map(async (name) => [await get("chatroom", name), ...(await children(name))]));
  return Object.fromEntries(rooms.flat().map(({ kind, metadata }) => [`${kind}/${metadata.name}`, metadata.resourceVersion]));
}

/** Write requests so far, as the API server counts them, for the kinds that the operator creates. */
async function apiWrites() {
  const lines = (await kubectl("get", "--raw", "/metrics")).split("\n");
  const writes = lines.filter((line) => /^apiserver_request_total\{.*verb="(APPLY|CREATE|DELETE|PATCH|POST|PUT|UPDATE)"/.test(line) && OURS.test(line));
  return Object.fromEntries(writes.map((line) => [line.slice(0, line.lastIndexOf(" ")), line.slice(line.lastIndexOf(" ") + 1)]));
}

/** Write requests to the broker's management API so far, from its access log. */
async function brokerWrites() {
  const log = await kubectl("-n", SYSTEM, "exec", `${RELEASE}-rabbitmq-0`, "--", "sh", "-c", "cat /var/log/rabbitmq/access.log* 2>/dev/null || true");
  return log.split("\n").filter((line) => /"?(PUT|POST|DELETE) \//.test(line)).length;
}
