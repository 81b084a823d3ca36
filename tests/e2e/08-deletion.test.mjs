// Deletes rooms, their Secrets, their brokers and namespaces in every order: each deletion ends, and only a retained log is left.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Broker, exchangeOf, logOf } from "../lib/cluster/broker.mjs";
import { join } from "../lib/cluster/ingress.mjs";
import { apply, applyTo, get, inRooms, kubectl, list } from "../lib/cluster/kubectl.mjs";
import { CLEANUP_TIMEOUT, withoutOperator } from "../lib/cluster/release.mjs";
import { childOf, create, ready, remove, room, roomWithIngress, status } from "../lib/cluster/room.mjs";
import { RELEASE, ROOMS, SYSTEM } from "../lib/cluster/settings.mjs";
import { until } from "../lib/wait.mjs";

describe("deletion", () => {
  let broker;
  before(async () => {
    broker = await Broker.open();
  });
  after(() => broker?.close());

  test("a deleted room leaves nothing behind, and other rooms stay", async () => {
    await Promise.all([create(room("vai")), create(room("fica"))]);
    assert.notDeepEqual(await broker.belongings("vai"), []);
    await remove("vai");
    assert.deepEqual(await broker.belongings("vai"), []);
    assert.ok(await broker.exchange("fica"));
    await ready("fica");
    await until("Kubernetes has deleted the children of the room", async () => !(await get("deployment", childOf("vai"))) && !(await get("service", childOf("vai"))));
    await remove("fica");
  });

  test("a room of the same name continues a retained log", async () => {
    const NAME = "guarda";
    await create(roomWithIngress(NAME, { deletionPolicy: "Retain" }));
    const { epoch } = await status(NAME);
    const ana = await join(NAME, "Ana");
    await ana.send("para depois");
    ana.leave();
    await remove(NAME);
    assert.ok(await broker.queue(logOf(NAME, epoch)), "the log is still on the broker");
    await create(roomWithIngress(NAME));
    assert.equal((await status(NAME)).epoch, epoch);
    const rui = await join(NAME, "Rui");
    await rui.sees("para depois");
    rui.leave();
    await remove(NAME);
    assert.deepEqual(await broker.belongings(NAME), []);
  });

  test("the next operator removes a room deleted without one", async () => {
    await create(room("espera"));
    await withoutOperator(async () => {
      await inRooms("delete", "chatroom", "espera", "--wait=false");
      assert.ok((await get("chatroom", "espera")).metadata.deletionTimestamp, "the finalizer keeps the room");
    });
    await until("the room is gone", async () => !(await get("chatroom", "espera")));
    assert.deepEqual(await broker.belongings("espera"), []);
  });

  test("a room without its broker's Secret can be deleted", async () => {
    const NAME = "sem-segredo";
    await inRooms("create", "secret", "generic", "my-broker", ...(await literals()));
    await create(room(NAME, { broker: { secretName: "my-broker" } }));
    await inRooms("delete", "secret", "my-broker");
    await remove(NAME, 120);
    // The operator had no credentials for the broker, so the test removes what is left there.
    await sweep(broker, NAME);
  });

  test("a namespace with rooms in it can be deleted", async () => {
    const namespace = `${ROOMS}-gone`;
    await kubectl("create", "namespace", namespace);
    const text = { ...room("sala"), metadata: { name: "sala", namespace } };
    await applyTo(namespace, text);
    await kubectl("-n", namespace, "wait", "--for=condition=Ready", "chatroom/sala", "--timeout=180s");
    await kubectl("delete", "namespace", namespace, "--timeout=180s");
    assert.equal(await broker.call("GET", `exchanges/%2F/papo.${namespace}.sala`), null);
  });

  test("a room can be deleted while its broker is down", async () => {
    const NAME = "sem-broker";
    await inRooms("create", "secret", "generic", "dead-broker", "--from-literal=username=x", "--from-literal=password=x", "--from-literal=host=dead.invalid", "--from-literal=port=5672");
    await apply(room(NAME, { broker: { secretName: "dead-broker" } }));
    await until("BrokerReady is False", async () => {
      const one = (await status(NAME)).conditions?.find(({ type }) => type === "BrokerReady");
      return one?.status === "False";
    });
    const began = Date.now();
    await remove(NAME, CLEANUP_TIMEOUT + 120);
    assert.ok(Date.now() - began > (CLEANUP_TIMEOUT - 5) * 1000, "the operator tried for cleanupTimeout");
    await until("an event says what may be left on the broker", async () => {
      const events = await list("events");
      return events.some(({ reason, message }) => reason === "LeftOnBroker" && message.includes(exchangeOf(NAME)));
    });
    const leftovers = `${RELEASE}-operator-leftovers`;
    const keys = Object.keys((await get("configmap", leftovers, SYSTEM)).data);
    const key = keys.find((one) => one.startsWith(`${ROOMS}.${NAME}.`));
    assert.ok(key, `the list of what is left names the room: ${keys}`);
    const removal = JSON.stringify([{ op: "remove", path: `/data/${key}` }]);
    await kubectl("-n", SYSTEM, "patch", "configmap", leftovers, "--type=json", "-p", removal);
    await inRooms("delete", "secret", "dead-broker");
  });
});

/** The default broker's Secret, as arguments of `kubectl create secret generic`. */
async function literals() {
  const { data } = await get("secret", `${RELEASE}-rabbitmq-default-user`, SYSTEM);
  return ["host", "port", "username", "password"].map((key) => `--from-literal=${key}=${Buffer.from(data[key], "base64")}`);
}

async function sweep(broker, name) {
  for (const belonging of await broker.belongings(name)) {
    const [kind, object] = belonging.split(" ");
    const path = { exchange: `exchanges/%2F/${object}`, queue: `queues/%2F/${object}`, user: `users/${object}`, policy: `policies/%2F/${object}` }[kind];
    await broker.call("DELETE", path);
  }
}
