// Installs the chart with helm, checks the objects that it creates, and upgrades it without a change of pods or passwords.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";

import { apply, applyText, get, helm, inRooms, kubectl } from "../lib/cluster/kubectl.mjs";
import { install, operators } from "../lib/cluster/release.mjs";
import { childOf, create, hostOf, pods, ready, remove, room } from "../lib/cluster/room.mjs";
import { RELEASE, ROOMS, SYSTEM } from "../lib/cluster/settings.mjs";

const DEFINITION = new URL("../../manifests/crd.yaml", import.meta.url).pathname;
const SAMPLES = new URL("../../manifests/samples/", import.meta.url);

describe("the definition", () => {
  test("the API server does not warn of it", async () => {
    // With this flag kubectl fails if the API server warns of anything.
    await kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--warnings-as-errors", "-f", DEFINITION);
  });

  test("every field of a ChatRoom has a description", async () => {
    const crd = JSON.parse(await kubectl("get", "crd", "chatrooms.papo.chat", "-o", "json"));
    const { spec, status } = crd.spec.versions[0].schema.openAPIV3Schema.properties;
    const silent = [...unexplained(spec, "spec"), ...unexplained(status, "status")];
    assert.deepEqual(silent, []);
  });

  for (const [mistake, spec] of [
    ["a negative number of replicas", { replicas: -1 }],
    ["an unknown field", { replcas: 2 }],
    ["a title of 10,000 characters", { title: "x".repeat(10_000) }],
    ["an unknown deletion policy", { deletionPolicy: "Maybe" }],
    ["a retention of one byte", { retention: { maxBytes: 1 } }],
    ["an invalid age", { retention: { maxAge: "7 days" } }],
    ["a frame too small for a message", { limits: { frameSize: 1024 } }],
    ["an invalid host", { ingress: { host: "Not A Host" } }],
  ]) {
    test(`the API server rejects ${mistake}`, () => assert.rejects(apply(room("errada", spec)), /"errada" is invalid|unknown field "spec.replcas"/));
  }

  const issuer = { issuer: "https://id.example", audiences: ["papo"] };
  for (const [mistake, access, words] of [
    ["an issuer without TLS", { issuers: [{ ...issuer, issuer: "http://id.example" }] }, /must be https:\/\/ \(http:\/\/ only for localhost\)/],
    ["an issuer with a query", { issuers: [{ ...issuer, jwksUri: "https://id.example/keys?x" }] }, /without user, query and fragment/],
    ["an issuer without an audience", { issuers: [{ ...issuer, audiences: [] }] }, /audiences.* should have at least 1 items/],
    ["an issuer that is named twice", { issuers: [issuer, { ...issuer, audiences: ["other"] }] }, /an issuer may be named once/],
    ["an issuer with two kinds of keys", { issuers: [{ ...issuer, jwksUri: issuer.issuer, keySecretName: "key" }] }, /keySecretName or jwksUri, not both/],
    ["a room that nobody may enter", { guests: "None", issuers: [] }, /nobody may enter/],
    ["a grant without a kind", { guests: "Read", write: ["staff"] }, /must be \*, group:NAME or subject:SUB/],
    ["a sign-in at another issuer", { issuers: [issuer], signIn: { clientId: "papo", issuer: "https://other.example" } }, /signIn.issuer must be one of issuers/],
    ["a sender that is none", { guests: "Read", denied: { senders: ["mallory"] } }, /senders/],
    ["an unknown field of access", { guests: "Read", denied: { addresses: [] } }, /unknown field "spec.access.denied.addresses"/],
  ]) {
    test(`the API server rejects ${mistake}`, () => assert.rejects(apply(room("errada", { access })), words));
  }

  test("the API server rejects a name of 46 characters", () => assert.rejects(apply(room("x".repeat(46)))));
});

describe("the samples", () => {
  for (const name of ["geral", "full", "company", "stage"]) {
    test(`the API server accepts ${name}.yaml`, async () => {
      await inRooms("apply", "--dry-run=server", "--validate=strict", "-f", new URL(`${name}.yaml`, SAMPLES).pathname);
    });
  }

  test("geral.yaml has less than ten lines and becomes ready", async () => {
    const text = await readFile(new URL("geral.yaml", SAMPLES), "utf8");
    assert.ok(text.trimEnd().split("\n").length < 10);
    // Another namespace may have a room with the sample's host, so the test uses a host of its own.
    await applyText(text.replace(/host: .*/, `host: ${hostOf("amostra")}`));
    await ready("geral");
    const table = await inRooms("get", "chatrooms");
    assert.match(table, /^NAME +READY +REPLICAS +URL +AGE/);
    assert.match(table, /geral +True/);
    await remove("geral");
  });
});

describe("the release", () => {
  const NAME = "constante";
  before(() => create(room(NAME)));
  after(() => remove(NAME));

  test("helm test sends a message through a room", async () => {
    assert.match(await helm("test", RELEASE, "-n", SYSTEM, "--logs", "--timeout", "4m"), /the room said: helm test/);
  });

  test("an upgrade keeps the broker's password and restarts no pod", async () => {
    const before = await identities(NAME);
    await install("--set", "commonLabels.upgraded=yes", "--set", "operator.logFilter=debug");
    assert.deepEqual(await identities(NAME), before);
    await ready(NAME);
    await install();
    assert.deepEqual(await identities(NAME), before);
  });

  test("the operator serves probes and metrics", async () => {
    // The upgrade of the previous test may still be replacing operators, so the test asks one that is not being deleted.
    const [pod] = await operators();
    const fetch = (path) => kubectl("get", "--raw", `/api/v1/namespaces/${SYSTEM}/pods/${pod.metadata.name}:8080/proxy${path}`);
    await fetch("/livez");
    await fetch("/readyz");
    assert.match(await fetch("/metrics"), /^papo_operator_/m);
  });

  test("the operator has no permission that it does not use", async () => {
    const account = `--as=system:serviceaccount:${SYSTEM}:${RELEASE}`;
    const may = async (...what) => (await kubectl("auth", "can-i", ...what, account).catch((error) => error.message)).includes("yes");
    assert.ok(await may("patch", "deployments.apps", "-n", ROOMS));
    for (const what of [["create", "pods"], ["get", "nodes"], ["create", "clusterroles"], ["create", "pods/exec"], ["delete", "chatrooms.papo.chat"]]) {
      assert.ok(!(await may(...what, "-n", ROOMS)), what.join(" "));
    }
  });
});

/** Values that an upgrade must not change: the pods of the room and of the broker, and the broker's password. */
async function identities(name) {
  const broker = await get("pod", `${RELEASE}-rabbitmq-0`, SYSTEM);
  const { password } = (await get("secret", `${RELEASE}-rabbitmq-default-user`, SYSTEM)).data;
  const uids = (await pods(name)).map(({ metadata }) => metadata.uid).sort();
  return { uids, generation: (await get("deployment", childOf(name))).metadata.generation, broker: broker.metadata.uid, password };
}

/** Paths of the fields that have no description. */
function unexplained(schema, path) {
  const here = schema.description || path === "spec" || path === "status" ? [] : [path];
  const fields = Object.entries(schema.properties ?? {}).flatMap(([name, field]) => unexplained(field, `${path}.${name}`));
  const items = schema.items?.properties ? Object.entries(schema.items.properties).flatMap(([name, field]) => unexplained(field, `${path}[].${name}`)) : [];
  return [...here, ...fields, ...items];
}
