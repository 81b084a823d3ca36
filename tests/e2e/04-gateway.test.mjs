// Installs the Gateway API in a cluster without it, as every new kind cluster is, while rooms are in use.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, describe, test } from "node:test";

import { join } from "../lib/cluster/ingress.mjs";
import { apply, get } from "../lib/cluster/kubectl.mjs";
import { operators } from "../lib/cluster/release.mjs";
import { childOf, hasGatewayApi, create, podsReady, remove, roomWithGateway, roomWithIngress, hostOf, status } from "../lib/cluster/room.mjs";
import { GATEWAY, INSTALL_GATEWAY } from "../lib/cluster/settings.mjs";
import { until } from "../lib/wait.mjs";
import { windowsTalk } from "./windows.mjs";

const NAME = "portal";
/** The room's second host, which only its HTTPRoute serves. */
const BY_GATEWAY = `${NAME}-gateway`;
const SECONDS = 60;

describe("the Gateway API is installed while the operator runs", { skip: GATEWAY && INSTALL_GATEWAY ? false : "PAPO_E2E_GATEWAY and PAPO_E2E_INSTALL_GATEWAY are not set" }, () => {
  let isMissing;
  let ana;
  before(async () => {
    isMissing = !(await hasGatewayApi());
    const { ingress } = roomWithIngress(NAME).spec;
    const chatRoom = roomWithGateway(NAME, { ingress });
    chatRoom.spec.gateway.hostnames = [hostOf(BY_GATEWAY)];
    await apply(chatRoom);
    await podsReady(NAME, 1, 120);
    ana = await join(NAME, "Ana");
  });
  after(async () => {
    ana?.leave();
    await remove(NAME);
  });

  test("without it a room is served and reports KindMissing", async (t) => {
    if (!isMissing) return t.skip("the Gateway API is installed already");
    await ana.send("sem gateway");
    await ana.sees("sem gateway");
    const reported = await until("a condition has the reason KindMissing", async () => (await status(NAME)).conditions?.find(({ reason }) => reason === "KindMissing"));
    t.diagnostic(`${reported.type}=${reported.status}: ${reported.message}`);
    const { conditions } = await status(NAME);
    const condition = (name) => conditions.find(({ type }) => type === name);
    assert.equal(condition("RouteAccepted").reason, "KindMissing", "the route is what is missing");
    assert.equal(condition("Available").status, "True", "the servers need no route");
    // Rooms without `spec.gateway` are not affected.
    await create(roomWithIngress("sem-rota"));
    await remove("sem-rota");
  });

  test("the operator creates the HTTPRoute within a minute", async (t) => {
    if (!isMissing) return t.skip("the Gateway API is installed already");
    const before = await identities();
    const installed = shell(INSTALL_GATEWAY);
    await Promise.race([installed, until("the Gateway API is installed", hasGatewayApi, 300)]);
    const began = Date.now();
    await until("the room has its HTTPRoute", () => get("httproute", childOf(NAME)), SECONDS);
    t.diagnostic(`${((Date.now() - began) / 1000).toFixed(1)} s from the installed definitions to the HTTPRoute`);
    await installed;
    assert.deepEqual(await identities(), before, "no operator was restarted");
    await until("no condition has the reason KindMissing", async () => (await status(NAME)).conditions.every(({ reason }) => reason !== "KindMissing"));
  });

  test("members talk through the gateway", async () => {
    const rui = await join(BY_GATEWAY, "Rui", { seconds: 120 });
    await rui.send("pelo gateway");
    await Promise.all([rui.sees("pelo gateway"), ana.sees("pelo gateway")]);
    rui.leave();
  });
});

windowsTalk("through the HTTPRoute", "by-gateway", roomWithGateway, { skip: GATEWAY ? false : "PAPO_E2E_GATEWAY names no Gateway" });

/** Pods of the operators and restarts of their containers: they differ if an operator is another process. */
async function identities() {
  const all = (await operators()).map(({ metadata, status }) => `${metadata.uid} ${(status.containerStatuses ?? []).map(({ restartCount }) => restartCount)}`);
  return all.sort();
}

/** Runs a shell command; its output goes to standard error. */
const shell = (command) =>
  new Promise((resolve, reject) => {
    const child = spawn(command, { shell: true, stdio: ["ignore", 2, 2] });
    child.once("error", reject);
    child.once("exit", (code) => (code === 0 ? resolve() : reject(new Error(`${command}: ended with ${code}`))));
  });
