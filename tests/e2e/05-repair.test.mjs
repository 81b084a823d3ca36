// The operator restores objects that somebody else deletes or changes, while members stay in the room.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Broker, logOf } from "../lib/cluster/broker.mjs";
import { join } from "../lib/cluster/ingress.mjs";
import { apply, get, inRooms } from "../lib/cluster/kubectl.mjs";
import { withoutOperator } from "../lib/cluster/release.mjs";
import { children, condition, create, pods, podsReady, isReady, ready, remove, room, roomWithGateway, roomWithIngress, status } from "../lib/cluster/room.mjs";
import { GATEWAY, RELEASE, SYSTEM } from "../lib/cluster/settings.mjs";
import { until } from "../lib/wait.mjs";

const NAME = "reparo";
const uidOf = ({ metadata }) => metadata.uid;
const titleOf = ({ kind, metadata }) => `${kind} ${metadata.name}`;

describe("repair", () => {
  let broker;
  let member;
  before(async () => {
    await create(roomWithIngress(NAME, { replicas: 2 }));
    broker = await Broker.open();
    member = await join(NAME, "Ana");
  });
  after(async () => {
    member?.leave();
    broker?.close();
    await remove(NAME);
  });

  test("the operator creates a deleted child again", async () => {
    const before = await children(NAME);
    const kinds = new Set(before.map(({ kind }) => kind));
    for (const kind of ["Deployment", "Service", "Secret", "PodDisruptionBudget", "NetworkPolicy", "Ingress"]) assert.ok(kinds.has(kind), `the room has a ${kind}`);
    for (const child of before) {
      await inRooms("delete", child.kind, child.metadata.name, "--wait=false");
      await until(`${titleOf(child)} is back`, async () => {
        const now = await get(child.kind, child.metadata.name);
        return now && uidOf(now) !== uidOf(child) && !now.metadata.deletionTimestamp;
      });
    }
    await podsReady(NAME, 2);
    await ready(NAME);
    await member.send("ainda aqui");
    await member.sees("ainda aqui");
  });

  test("the operator reverts a change of a child", async () => {
    const { name } = (await children(NAME)).find(({ kind }) => kind === "Service").metadata;
    const desired = (await get("service", name)).spec.selector;
    await inRooms("patch", "service", name, "--type=merge", "-p", JSON.stringify({ spec: { selector: { ...desired, wrong: "yes", "app.kubernetes.io/name": "other" } } }));
    await until("the selector is right again", async () => {
      const { selector } = (await get("service", name)).spec;
      return Object.entries(desired).every(([key, value]) => selector[key] === value);
    });
    await inRooms("patch", "service", name, "--type=json", "-p", JSON.stringify([{ op: "remove", path: "/spec/selector/wrong" }])).catch(() => {});
  });

  test("a deleted binding comes back, and messages flow", async () => {
    const log = logOf(NAME, (await status(NAME)).epoch);
    const [binding] = (await broker.bindings(NAME)).filter(({ destination }) => destination === log);
    await broker.deleteBinding(NAME, binding);
    await until("the binding is back", async () => (await broker.bindings(NAME)).some(({ destination }) => destination === log), 180);
    await member.send("depois do binding");
    await member.sees("depois do binding");
  });

  test("a deleted exchange comes back, and messages flow", async () => {
    await broker.deleteExchange(NAME);
    await until("the exchange is back", () => broker.exchange(NAME), 180);
    await member.send("depois da exchange");
    await member.sees("depois da exchange", 60);
    await ready(NAME);
  });

  test("a deleted log is replaced, and members follow", async () => {
    const old = (await status(NAME)).epoch;
    await broker.deleteQueue(logOf(NAME, old));
    const epoch = await until("the room has a new epoch", async () => {
      const now = (await status(NAME)).epoch;
      return now && now !== old && now;
    }, 180);
    await until("the member is in the new epoch", () => member.epoch === epoch, 120);
    await member.send("um log novo");
    await member.sees("um log novo");
    await ready(NAME);
    assert.equal(await broker.queue(logOf(NAME, old)), null, "the old log is gone");
  });

  test("a restarted operator catches up with missed changes", async () => {
    await withoutOperator(async () => {
      await member.send("sem operador");
      await member.sees("sem operador");
      await inRooms("scale", "chatroom", NAME, "--replicas=3");
      await inRooms("scale", "chatroom", NAME, "--replicas=1");
    });
    await podsReady(NAME, 1);
    await ready(NAME);
  });

  test("a retention change reaches the log without a new epoch", async () => {
    const { epoch } = await status(NAME);
    await inRooms("patch", "chatroom", NAME, "--type=merge", "-p", JSON.stringify({ spec: { retention: { maxBytes: "50M" } } }));
    await until("the log has the new retention", async () => {
      const log = await broker.queue(logOf(NAME, epoch));
      const effective = { ...log.arguments, ...log.effective_policy_definition };
      return effective["max-length-bytes"] === 50_000_000 || effective["x-max-length-bytes"] === 50_000_000;
    });
    assert.equal((await status(NAME)).epoch, epoch);
  });

  test("the API server rejects another broker after the log exists", async () => {
    const other = JSON.stringify({ spec: { broker: { secretName: "other" } } });
    await assert.rejects(inRooms("patch", "chatroom", NAME, "--type=merge", "-p", other), /the broker cannot change once the room has a log/);
  });

  test("the operator deletes children that the spec no longer has", async () => {
    await inRooms("patch", "chatroom", NAME, "--type=merge", "-p", JSON.stringify({ spec: { ingress: null, replicas: 1 } }));
    await until("Ingress and PodDisruptionBudget are gone", async () => !(await children(NAME)).some(({ kind }) => ["Ingress", "PodDisruptionBudget"].includes(kind)));
    await apply(roomWithIngress(NAME));
    await until("the Ingress is back", async () => (await children(NAME)).some(({ kind }) => kind === "Ingress"));
  });

  test("an HTTPRoute replaces the Ingress when the spec does", { skip: GATEWAY ? false : "no Gateway" }, async () => {
    await apply(roomWithGateway(NAME));
    await until("there is an HTTPRoute and no Ingress", async () => {
      const kinds = (await children(NAME)).map(({ kind }) => kind);
      return kinds.includes("HTTPRoute") && !kinds.includes("Ingress");
    });
  });

  test("a rejected route is reported in the Gateway's words", { skip: GATEWAY ? false : "no Gateway" }, async () => {
    const wrong = roomWithGateway(NAME);
    wrong.spec.gateway.parentRefs[0].sectionName = "no-such-listener";
    await apply(wrong);
    const rejected = await until("RouteAccepted is False", async () => {
      const accepted = await condition(NAME, "RouteAccepted");
      return accepted?.status === "False" && accepted;
    });
    assert.equal(rejected.reason, "RouteRejected");
    assert.match(rejected.message, /^Gateway \S+: \w+: ./);
    assert.equal((await condition(NAME, "Ready")).status, "False");
    await apply(roomWithGateway(NAME));
    await ready(NAME);
    await until("the Gateway has accepted the route", async () => (await condition(NAME, "RouteAccepted")).status === "True");
  });

  // In each case the conditions quote the component that rejected the change, the old server keeps serving, and the room becomes
  // ready again after the correction.
  const mistakes = [
    ["a missing image", { image: "papo-server:missing" }, { image: null }, /papo-server:missing/],
    ["an affinity that matches no node", { placement: { nodeSelector: { "papo.chat/none": "none" } } }, { placement: null }, /node\(s\) didn't match/],
    ["a missing priority class", { placement: { priorityClassName: "none" } }, { placement: null }, /no PriorityClass with name none was found/],
  ];
  for (const [mistake, wrong, right, words] of mistakes) {
    test(`${mistake} is reported, and the corrected room becomes ready`, async () => {
      const patch = (spec) => inRooms("patch", "chatroom", NAME, "--type=merge", "-p", JSON.stringify({ spec }));
      await ready(NAME);
      const [old] = await podsReady(NAME, 1);
      await patch(wrong);
      await until("UpToDate is False and quotes the cause", async () => {
        const updated = await condition(NAME, "UpToDate");
        const { generation } = (await get("chatroom", NAME)).metadata;
        return updated?.status === "False" && updated.observedGeneration === generation && words.test(updated.message);
      });
      assert.equal((await condition(NAME, "Ready")).status, "False");
      assert.equal((await condition(NAME, "Available")).status, "True", "the old server serves");
      assert.ok((await pods(NAME)).some((pod) => uidOf(pod) === uidOf(old) && isReady(pod)), "the old server stays until a new one answers");
      await patch(right);
      await ready(NAME);
      assert.equal((await condition(NAME, "Ready")).observedGeneration, (await get("chatroom", NAME)).metadata.generation);
    });
  }

  test("a missing broker Secret is named until it is corrected", async () => {
    await apply(room("engano", { broker: { secretName: "missing" } }));
    await until("BrokerReady is False and names the Secret", async () => {
      const broken = await condition("engano", "BrokerReady");
      return broken?.status === "False" && broken.message.includes("missing");
    });
    await apply(room("engano"));
    await ready("engano");
    await remove("engano");
  });

  test("a wrong broker password is reported until it is corrected", async () => {
    const { data } = await get("secret", `${RELEASE}-rabbitmq-default-user`, SYSTEM);
    const secret = (password) => ({ apiVersion: "v1", kind: "Secret", metadata: { name: "senha" }, data: { ...data, password } });
    await apply(secret(Buffer.from("wrong").toString("base64")), room("senha", { broker: { secretName: "senha" } }));
    await until("BrokerReady says what the broker answered", async () => {
      const broken = await condition("senha", "BrokerReady");
      return broken?.reason === "BrokerRejected" && /answered 401: the Secret's user or password is wrong/.test(broken.message);
    });
    await apply(secret(data.password));
    await ready("senha");
    await remove("senha");
    await inRooms("delete", "secret", "senha");
  });
});
