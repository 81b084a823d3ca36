// The operator as a process in the cluster: two of them, an upgrade from a chart that knew less, and what all of it costs.

import assert from "node:assert/strict";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { after, before, describe, test } from "node:test";

import { apply, get, inRooms, kubectl } from "./lib/kubectl.mjs";
import { Member } from "./lib/member.mjs";
import { CHART, OPERATOR, install, installFrom, operators } from "./lib/release.mjs";
import { childOf, create, pods, ready, remove, room, roomWithIngress, status, urlOf } from "./lib/room.mjs";
import { SYSTEM } from "./lib/settings.mjs";
import { until } from "./lib/wait.mjs";

describe("two operators", () => {
  before(async () => {
    await kubectl("-n", SYSTEM, "scale", `deployment/${OPERATOR}`, "--replicas=2");
    await until("both are ready", async () => (await get("deployment", OPERATOR, SYSTEM)).status.readyReplicas === 2);
  });
  after(async () => {
    await kubectl("-n", SYSTEM, "scale", `deployment/${OPERATOR}`, "--replicas=1");
    await until("one is left", async () => (await operators()).length === 1);
  });

  test("when the leader is told to go, the other takes over at once", async (t) => {
    // The Lease by the name that the chart gives, and its Role allows.
    const first = await leader();
    assert.ok(await isThere(first), `${first} is one of them`);
    await kubectl("-n", SYSTEM, "delete", "pod", first, "--wait=false");
    const began = Date.now();
    const second = await until("another leads", async () => {
      const now = await leader();
      return now && now !== first && now;
    });
    const seconds = (Date.now() - began) / 1000;
    t.diagnostic(`${seconds.toFixed(1)} s without a leader`);
    assert.ok(seconds < 12, "the Lease was given back: nobody waited for it to run out");
    assert.ok(await isThere(second));
    await create(room("sucessao"));
    await remove("sucessao");
  });
});

describe("an upgrade from a chart that did not know a field", () => {
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

  test("changes no pod of a room, and the field then works", async () => {
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

  test("a room is ready, and takes a first message through the ingress, within seconds", async (t) => {
    const began = Date.now();
    const since = () => ((Date.now() - began) / 1000).toFixed(1);
    await apply(roomWithIngress(NAME));
    await ready(NAME);
    t.diagnostic(`${since()} s from apply to Ready`);
    const ana = await Member.join(urlOf(NAME), "Ana");
    await ana.send("primeira");
    await ana.sees("primeira");
    ana.leave();
    t.diagnostic(`${since()} s from apply to a first message through the ingress`);
    assert.ok(Number(since()) < 60);
  });

  test("a pass over a room at rest reads little and writes nothing", async (t) => {
    await until("the room is at rest", async () => (await status(NAME)).conditions.every((one) => one.status === "True" || one.type === "Exposed"));
    const before = await metrics();
    const now = await until("some passes were made", async () => {
      const now = await metrics();
      return now.passes >= before.passes + 3 && now;
    }, 150);
    const passes = now.passes - before.passes;
    const reads = (now.reads - before.reads) / passes;
    t.diagnostic(`${reads.toFixed(1)} broker reads a pass, over ${passes} passes`);
    assert.ok(reads <= 7, `${reads} broker reads a pass`);
    assert.equal(now.writes, before.writes, "the broker is asked to write nothing");
    assert.equal(now.clusterWrites, before.clusterWrites, "nor is the API server");
  });

  test("the operator is small", async (t) => {
    const [{ spec, metadata }] = await operators();
    const stats = JSON.parse(await kubectl("get", "--raw", `/api/v1/nodes/${spec.nodeName}/proxy/stats/summary`));
    const { memory } = await until("the kubelet has counted", () => stats.pods.find(({ podRef }) => podRef.uid === metadata.uid)?.containers?.[0]);
    const mebibytes = memory.rssBytes / 2 ** 20;
    t.diagnostic(`${mebibytes.toFixed(1)} MiB resident, ${(memory.workingSetBytes / 2 ** 20).toFixed(1)} MiB working set`);
    assert.ok(mebibytes < 64);
  });
});

/** Is there an operator of this name? */
const isThere = async (name) => (await operators()).some(({ metadata }) => metadata.name === name);

/** Which of them works. */
const leader = async () => (await get("lease", OPERATOR, SYSTEM)).spec.holderIdentity;

/** What must not change in an upgrade. */
async function identity(name) {
  const uids = (await pods(name)).map(({ metadata }) => metadata.uid).sort();
  return { uids, generation: (await get("deployment", childOf(name))).metadata.generation };
}

const rewrite = async (path, change) => {
  const text = await readFile(path, "utf8");
  const changed = change(text);
  assert.notEqual(changed, text, `${path} is as it was thought to be`);
  await writeFile(path, changed);
};

/** What the operator that works has counted. */
async function metrics() {
  const text = await kubectl("get", "--raw", `/api/v1/namespaces/${SYSTEM}/pods/${await leader()}:8080/proxy/metrics`);
  const value = (name) => Number(text.split("\n").find((line) => line.startsWith(`${name} `))?.split(" ")[1] ?? 0);
  return {
    passes: value('papo_operator_reconciles_total{outcome="success"}'),
    reads: value('papo_operator_broker_requests_total{access="read"}'),
    writes: value('papo_operator_broker_requests_total{access="write"}'),
    clusterWrites: value("papo_operator_cluster_writes_total"),
  };
}
