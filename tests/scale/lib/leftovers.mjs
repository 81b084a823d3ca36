// What there is of a run's rooms on the broker and in the cluster.

import { kubectl } from "../../lib/cluster/kubectl.mjs";
import { hasGatewayApi } from "../../lib/cluster/room.mjs";
import { VHOST } from "../../lib/broker.mjs";

/** Kinds on the broker. The list of queues without statistics is one that RabbitMQ can make without reading all of them. */
const ON_BROKER = {
  exchanges: [`exchanges/${VHOST}?columns=name`, "name"],
  queues: [`queues/${VHOST}?disable_stats=true`, "name"],
  users: ["users", "name"],
  permissions: ["permissions", "user"],
  policies: [`policies/${VHOST}`, "name"],
};

/** Objects on the broker that are named after rooms of these namespaces, by kind. */
export async function onBroker(broker, namespaces) {
  const prefixes = namespaces.map((namespace) => `papo.${namespace}.`);
  const entries = Object.entries(ON_BROKER).map(async ([kind, [path, field]]) => {
    const names = ((await broker.call("GET", path)) ?? []).map((object) => object[field]);
    return [kind, names.filter((name) => prefixes.some((prefix) => name.startsWith(prefix)))];
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** Objects of the rooms of these namespaces in the cluster, by kind. */
export async function inCluster(namespaces) {
  const kinds = "deployments,services,secrets,poddisruptionbudgets,networkpolicies,ingresses";
  const text = await kubectl("get", (await hasGatewayApi()) ? `${kinds},httproutes` : kinds, "-A", "-l", "papo.chat/room", "-o", "json");
  const rooms = await kubectl("get", "chatrooms", "-A", "-o", "json");
  const objects = [...JSON.parse(text).items, ...JSON.parse(rooms).items].filter(({ metadata }) => namespaces.includes(metadata.namespace));
  const kindsOf = [...new Set(objects.map(({ kind }) => kind))];
  return Object.fromEntries(kindsOf.map((kind) => [kind, objects.filter((object) => object.kind === kind).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`)]));
}

/** How many of each kind, as text. */
export const counted = (objects) =>
  Object.entries(objects)
    .filter(([, { length }]) => length > 0)
    .map(([kind, { length }]) => `${length} ${kind}`)
    .join(", ") || "none";

/** How many in all. */
export const total = (objects) => Object.values(objects).reduce((sum, { length }) => sum + length, 0);
