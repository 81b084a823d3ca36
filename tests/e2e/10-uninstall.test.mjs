// Uninstalls the release while rooms exist: the rooms stay and can be deleted, and the operator of the next release manages them.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Broker } from "../lib/cluster/broker.mjs";
import { join } from "../lib/cluster/ingress.mjs";
import { get, helm, kubectl, list } from "../lib/cluster/kubectl.mjs";
import { install } from "../lib/cluster/release.mjs";
import { create, pods, ready, remove, room, roomWithIngress, status } from "../lib/cluster/room.mjs";
import { RELEASE, SYSTEM } from "../lib/cluster/settings.mjs";
import { until } from "../lib/wait.mjs";

const STAYS = "permanece";
const GOES = "parte";

describe("helm uninstall with rooms left", () => {
  let epoch;
  before(async () => {
    await Promise.all([create(roomWithIngress(STAYS)), create(room(GOES, { deletionPolicy: "Retain" }))]);
    ({ epoch } = await status(STAYS));
    const ana = await join(STAYS, "Ana");
    await ana.send("antes");
    ana.leave();
  });
  after(async () => {
    await install();
    await ready(STAYS);
    await remove(STAYS);
  });

  test("rooms and servers stay, without finalizers", async () => {
    const before = (await pods(STAYS)).map(({ metadata }) => metadata.uid);
    await helm("uninstall", RELEASE, "-n", SYSTEM, "--wait", "--timeout", "5m");
    assert.equal(await get("deployment", `${RELEASE}-operator`, SYSTEM), null);
    for (const name of [STAYS, GOES]) assert.deepEqual((await get("chatroom", name)).metadata.finalizers ?? [], [], `${name} has no finalizer`);
    assert.deepEqual((await pods(STAYS)).map(({ metadata }) => metadata.uid), before);
    const events = await list("events");
    assert.ok(events.some(({ reason, involvedObject }) => reason === "FinalizerRemoved" && involvedObject.name === STAYS));
    const ours = await kubectl("get", "jobs,serviceaccounts,clusterroles", "-A", "-o", "name");
    assert.ok(!ours.includes(`${RELEASE}-remove-finalizers`), "the job that removed the finalizers is deleted");
  });

  test("a room is deleted at once without an operator", async () => {
    await remove(GOES);
    assert.equal(await get("chatroom", GOES), null);
  });

  test("the next release manages the rooms with their logs", async () => {
    await install();
    await until("the room has its finalizer again", async () => (await get("chatroom", STAYS)).metadata.finalizers?.length === 1);
    await ready(STAYS);
    assert.equal((await status(STAYS)).epoch, epoch);
    const rui = await join(STAYS, "Rui");
    await rui.sees("antes", 60);
    await rui.send("depois");
    await rui.sees("depois");
    rui.leave();
  });

  test("a room deleted meanwhile can be created again", async () => {
    const broker = await Broker.open();
    try {
      const left = await broker.exchange(GOES);
      assert.ok(left, "without an operator the objects stay on the broker");
      // Exchange and user still belong to the deleted room, so the operator would report a conflict. The test deletes them, as an
      // administrator would.
      await broker.deleteExchange(GOES);
      await broker.deleteUser(GOES);
      await create(room(GOES));
      await remove(GOES);
      assert.deepEqual(await broker.belongings(GOES), []);
    } finally {
      broker.close();
    }
  });
});
