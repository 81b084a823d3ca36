// The operator in the cluster: leader election, an upgrade from an older chart, and its cost in time, requests and memory.

import assert from "node:assert/strict";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { after, before, describe, test } from "node:test";

import { join } from "../lib/cluster/ingress.mjs";
import { apply, get, inRooms, kubectl } from "../lib/cluster/kubectl.mjs";
import { CHART, OPERATOR, install, installFrom, operators, scaleOperator } from "../lib/cluster/release.mjs";
import { childOf, create, pods, ready, remove, room, roomWithIngress, status } from "../lib/cluster/room.mjs";
import { SYSTEM } from "../lib/cluster/settings.mjs";
import { until } from "../lib/wait.mjs";

describe("two operators", () => {
  let replicas;
  before(async () => {
    ({ replicas } = (await get("deployment", OPERATOR, SYSTEM)).spec);
    if (replicas < 2) await scaleOperator(2);
    await until("both are ready", async () => (await get("deployment", OPERATOR, SYSTEM)).status.readyReplicas >= 2);
  });
  after(() => scaleOperator(replicas));

  test("a deleted leader gives its Lease to the other operator", async (t) => {
    let last = await lease();
    const first = last.holderIdentity;
    assert.ok(await isThere(first), `${first} is one of the operators`);
    await kubectl("-n", SYSTEM, "delete", "pod", first, "--wait=false");
    const began = Date.now();
    const taken = await until("another operator leads", async () => {
      const now = await lease();
      if (now.holderIdentity === first) last = now;
      return now.holderIdentity && now.holderIdentity !== first && now;
    });
    t.diagnostic(`another operator led ${seconds(began)} s after the deletion`);
    // An operator that waits until the Lease expires acquires it at this time or later.
    const expiry = Date.parse(last.renewTime) + last.leaseDurationSeconds * 1000;
    assert.ok(Date.parse(taken.acquireTime) < expiry, "the deleted leader released the Lease, so the other operator did not wait until it expired");
    assert.ok(await isThere(taken.holderIdentity));
    await create(room("sucessao"));
    await remove("sucessao");
  });
});

describe("an upgrade from a chart without spec.title", () => {
  const NAME = "antiga";
  let older;
  before(async () => {
    older = await mkdtemp(`${tmpdir()}/papo-chart-`);
    await cp(CHART, older, { recursive: true });
    await rewrite(`${older}/Chart.yaml`, (text) => text.replace(/^version: .*/m, "version: 0.0.1"));
    await rewrite(`${older}/templates/crd.yaml`, (text) => text.replace(/^ {14}title:\n(?: {16}.*\n)+/m, ""));
    await installFrom(older);
    await create(room(NAME));
  });
  after(async () => {
    await install();
    await rm(older, { recursive: true });
    await remove(NAME);
  });

  test("an upgrade changes no pod, and the new field works", async () => {
    const TITLE = "Sala nova";
    await assert.rejects(apply(room(NAME, { title: TITLE })), /unknown field "spec.title"/);
    const before = await identity(NAME);
    await install();
    await ready(NAME);
    assert.deepEqual(await identity(NAME), before);
    await apply(room(NAME, { title: TITLE }));
    await until("the servers have the title", async () => {
      const [container] = (await get("deployment", childOf(NAME))).spec.template.spec.containers;
      return container.env.some(({ value }) => value === TITLE);
    });
    await ready(NAME);
  });
});

describe("figures", () => {
  const NAME = "medida";
  after(() => remove(NAME));

  test("a new room takes a first message through the ingress", async (t) => {
    const began = Date.now();
    await apply(roomWithIngress(NAME));
    await ready(NAME);
    t.diagnostic(`${seconds(began)} s from apply to Ready`);
    const ana = await join(NAME, "Ana");
    await ana.send("primeira");
    await ana.sees("primeira");
    ana.leave();
    t.diagnostic(`${seconds(began)} s from apply to a first message through the ingress`);
  });

  test("a resync of an unchanged room writes nothing", async (t) => {
    await until("the room is in a steady state", async () => (await status(NAME)).conditions.every((one) => one.status === "True" || one.type === "RouteAccepted"));
    const before = await metrics();
    const now = await until("three resyncs have finished", async () => {
      const now = await metrics();
      return now.reconciles >= before.reconciles + 3 && now;
    }, 150);
    const reconciles = now.reconciles - before.reconciles;
    const reads = (now.reads - before.reads) / reconciles;
    t.diagnostic(`${reads.toFixed(1)} broker reads per reconcile, over ${reconciles} reconciles`);
    // Six of its own, and four more, at most every 15 s, for the virtual host with all its rooms.
    assert.ok(reads <= 10, `${reads} broker reads per reconcile`);
    assert.equal(now.writes, before.writes, "nothing was written to the broker");
    assert.equal(now.clusterWrites, before.clusterWrites, "nothing was written to the API server");
  });

  test("the operator needs less than 64 MiB", async (t) => {
    const [{ spec, metadata }] = await operators();
    const stats = JSON.parse(await kubectl("get", "--raw", `/api/v1/nodes/${spec.nodeName}/proxy/stats/summary`));
    const { memory } = await until("the kubelet reports the pod's memory", () => stats.pods.find(({ podRef }) => podRef.uid === metadata.uid)?.containers?.[0]);
    const mebibytes = memory.rssBytes / 2 ** 20;
    t.diagnostic(`${mebibytes.toFixed(1)} MiB resident, ${(memory.workingSetBytes / 2 ** 20).toFixed(1)} MiB working set`);
    assert.ok(mebibytes < 64);
  });
});

/** Whether an operator has this name. */
const isThere = async (name) => (await operators()).some(({ metadata }) => metadata.name === name);

/** The Lease, by the name that the chart gives. */
const lease = async () => (await get("lease", OPERATOR, SYSTEM)).spec;

/** Seconds since `began`, as text. */
const seconds = (began) => ((Date.now() - began) / 1000).toFixed(1);

/** Values that an upgrade must not change. */
async function identity(name) {
  const uids = (await pods(name)).map(({ metadata }) => metadata.uid).sort();
  return { uids, generation: (await get("deployment", childOf(name))).metadata.generation };
}

const rewrite = async (path, change) => {
  const text = await readFile(path, "utf8");
  const changed = change(text);
  assert.notEqual(changed, text, `${path} contains the text that the test removes`);
  await writeFile(path, changed);
};

/** Counters of the leading operator. */
async function metrics() {
  const text = await kubectl("get", "--raw", `/api/v1/namespaces/${SYSTEM}/pods/${(await lease()).holderIdentity}:8080/proxy/metrics`);
  const value = (name) => Number(text.split("\n").find((line) => line.startsWith(`${name} `))?.split(" ")[1] ?? 0);
  return {
    reconciles: value('papo_operator_reconciles_total{outcome="success"}'),
    reads: value('papo_operator_broker_requests_total{access="read"}'),
    writes: value('papo_operator_broker_requests_total{access="write"}'),
    clusterWrites: value("papo_operator_cluster_writes_total"),
  };
}
