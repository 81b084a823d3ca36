// Rooms: makes ChatRooms, waits for them, and finds their children.

import { apply, get, inRooms, kubectl, list, livePods } from "./kubectl.mjs";
import { DOMAIN, GATEWAY, INGRESS_ANNOTATIONS, INGRESS_CLASS, ROOMS } from "./settings.mjs";
import { until } from "../wait.mjs";

/** The host of a room's page. */
export const hostOf = (name) => `${name}.${DOMAIN}`;
/** The URL of a room's page. */
export const urlOf = (name) => `http://${hostOf(name)}`;

/** The name of each child of a room. */
export const childOf = (name) => `chat-${name}`;

/** A ChatRoom. */
export const room = (name, spec = {}) => ({
  apiVersion: "papo.chat/v1alpha1",
  kind: "ChatRoom",
  metadata: { name, namespace: ROOMS },
  spec,
});

/** A ChatRoom with an Ingress. */
export const roomWithIngress = (name, spec = {}) =>
  room(name, {
    ...spec,
    ingress: {
      host: hostOf(name),
      ...(INGRESS_CLASS && { className: INGRESS_CLASS }),
      ...(Object.keys(INGRESS_ANNOTATIONS).length > 0 && { annotations: INGRESS_ANNOTATIONS }),
    },
  });

/** Makes ChatRooms with an Ingress below a path. Contour allows WebSockets by path, so its annotation has the room's. */
export const roomBelow = (path) => (name, spec) => {
  const chatRoom = roomWithIngress(name, spec);
  const { ingress } = chatRoom.spec;
  const routes = "projectcontour.io/websocket-routes";
  ingress.path = path;
  if (ingress.annotations?.[routes]) ingress.annotations = { ...ingress.annotations, [routes]: `${path}/socket.io/` };
  return chatRoom;
};

/** A ChatRoom with an HTTPRoute of the Gateway. */
export function roomWithGateway(name, spec = {}) {
  const [namespace, gateway] = GATEWAY.split("/");
  return room(name, { ...spec, gateway: { parentRefs: [{ namespace, name: gateway }], hostnames: [hostOf(name)] } });
}

/** Applies a room and waits until it is ready. */
export async function create(chatRoom, seconds = 180) {
  await apply(chatRoom);
  await ready(chatRoom.metadata.name, seconds);
}

/** Waits for the condition Ready with `kubectl wait`, as a user does. */
export const ready = (name, seconds = 180) =>
  inRooms("wait", "--for=condition=Ready", `chatroom/${name}`, `--timeout=${seconds}s`);

/** Deletes a room and waits until it is gone. */
export const remove = (name, seconds = 120) =>
  inRooms("delete", "chatroom", name, "--ignore-not-found", "--wait", `--timeout=${seconds}s`);

/** The status of a room; empty if there is none. */
export const status = async (name) => (await get("chatroom", name))?.status ?? {};

/** The room's condition of this type; undefined if there is none. */
export const condition = async (name, type) => (await status(name)).conditions?.find((one) => one.type === type);

/** The pods of a room that are not being deleted. */
export async function pods(name) {
  return livePods((await status(name)).selector);
}

/** Whether the pod, or a node, has the condition Ready. */
export const isReady = (pod) => pod.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True");

/** Waits until the room has this many ready pods and no other. */
export const podsReady = (name, count, seconds = 180) =>
  until(
    `${name} has ${count} ready pods`,
    async () => {
      const all = await pods(name);
      return all.length === count && all.every(isReady) && all;
    },
    seconds,
  );

/** Objects that the room owns, of every kind that the operator creates. */
export async function children(name) {
  const { uid } = (await get("chatroom", name)).metadata;
  const kinds = "deployments,services,secrets,poddisruptionbudgets,networkpolicies,ingresses";
  const all = await list((await hasGatewayApi()) ? `${kinds},httproutes` : kinds);
  return all.filter((object) => object.metadata.ownerReferences?.some((owner) => owner.uid === uid));
}

/** Whether the Gateway API is installed. */
export const hasGatewayApi = async () => Boolean(await kubectl("get", "crd", "httproutes.gateway.networking.k8s.io", "--ignore-not-found", "-o", "name"));
