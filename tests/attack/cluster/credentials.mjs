// A chat pod's credentials in wrong hands (48): what the broker lets them do, and what is left when they have gone.

import { connect } from "amqplib";

import { lasting, until } from "../../lib/wait.mjs";

const CONNECTIONS = 300;
const QUEUES = 500;
/** Bytes that are stored, if the broker takes them, in messages of 1 MiB. */
const BYTES = 200 * 2 ** 20;
const MESSAGE = Buffer.alloc(2 ** 20, "x");
/** How long the broker may take to refuse. */
const ANSWERS_WITHIN = 10;
/** How soon nothing must be left, in seconds. */
const LEFT_FOR = 90;

/**
 * Does all that with the credentials of a room, on its broker. `management` is the broker's API for an administrator, which counts what is
 * there; `other`: exchange and log of another room.
 */
export async function misuse({ amqpUrl, user, password, exchange, management, other }) {
  const url = new URL(amqpUrl);
  Object.assign(url, { username: user, password });
  const before = new Set(await names(management));
  const counts = { connections: 0, queues: 0, bytes: 0, others: [] };
  const connections = [];
  try {
    for (let n = 0; n < CONNECTIONS; n++) {
      const connection = await open(url.href);
      if (connection) connections.push(connection);
    }
    counts.connections = connections.length;
    if (connections.length === 0) throw new Error("the credentials open no connection");
    counts.others = await reachable(connections[0], other);
    for (const name of wanted(exchange)) counts.queues += (await declares(connections[0], name)) ? 1 : 0;
    const own = (await names(management)).filter((name) => !before.has(name));
    if (own.length > 0) counts.bytes = await fill(connections[0], own[0], exchange);
  } finally {
    for (const connection of connections) await connection.close().catch(() => {});
  }
  const began = performance.now();
  const left = async () => (await names(management)).filter((name) => !before.has(name)).length;
  await until("nothing is left of the queues", async () => (await left()) === 0, LEFT_FOR).catch(() => {});
  return { ...counts, left: await left(), seconds: (performance.now() - began) / 1000 };
}

/** Adds the verdict on what `misuse` has counted, and returns a cell of the table. */
export function judgeMisuse({ connections, queues, bytes, others, left, seconds }, expect) {
  expect(connections < CONNECTIONS, `the broker accepted all ${connections} connections`);
  expect(queues < QUEUES, `the broker accepted all ${queues} queues`);
  expect(others.length === 0, `another room was reached: ${others}`);
  expect(left === 0, `${left} queues are left after ${Math.round(seconds)} s`);
  return `${connections} of ${CONNECTIONS} connections, ${queues} of ${QUEUES} durable queues, ${bytes >> 20} MiB stored; ${others.length} objects of another room; ${left} queues left after ${Math.round(seconds)} s`;
}

/** Names of queues: some that the broker chooses, some of the kind that servers have, and some of anybody's. */
function* wanted(exchange) {
  for (let n = 0; n < QUEUES; n++) yield ["", `${exchange}.signal.${n.toString(16).padStart(2, "0")}`, `mine-${n}`, `${exchange}.log.mine${n}`][n % 4];
}

const names = async (management) => (await management.call("GET", `queues/${encodeURIComponent("/")}?columns=name`)).map(({ name }) => name);

async function open(url) {
  const connection = await Promise.race([connect(url), lasting(ANSWERS_WITHIN)]).catch(() => undefined);
  connection?.on("error", () => {});
  return connection;
}

/** Calls `act` with a channel of its own, because an error closes the channel; whether the broker accepted it. */
async function accepts(connection, act) {
  try {
    const channel = await connection.createConfirmChannel();
    const closed = new Promise((_, reject) => channel.on("error", reject));
    await Promise.race([act(channel), closed, lasting(ANSWERS_WITHIN).then(() => Promise.reject(new Error("no answer")))]);
    await channel.close();
    return true;
  } catch {
    return false;
  }
}

const declares = (connection, name) => accepts(connection, (channel) => channel.assertQueue(name, { durable: true }));

/** What can be done to another room. */
async function reachable(connection, { exchange, log }) {
  const acts = {
    "publish to its exchange": (channel) => (channel.publish(exchange, "message", Buffer.from("forged")), channel.waitForConfirms()),
    "look at its log": (channel) => channel.checkQueue(log),
    "read its log": (channel) => channel.prefetch(1).then(() => channel.consume(log, () => {}, { arguments: { "x-stream-offset": "first" } })),
    "delete its log": (channel) => channel.deleteQueue(log),
    "delete its exchange": (channel) => channel.deleteExchange(exchange),
    "bind a queue to it": (channel) => channel.assertQueue("").then(({ queue }) => channel.bindQueue(queue, exchange, "#")),
  };
  const done = [];
  for (const [what, act] of Object.entries(acts)) if (await accepts(connection, act)) done.push(what);
  return done;
}

/** Stores messages in a queue of its own: through the default exchange, or through the room's. Returns the bytes that the broker confirmed. */
async function fill(connection, queue, exchange) {
  let bytes = 0;
  const publish = (to, key) => async (channel) => {
    for (let n = 0; n < BYTES / MESSAGE.length; n++) {
      channel.publish(to, key, MESSAGE, { persistent: true });
      await channel.waitForConfirms();
      bytes += MESSAGE.length;
    }
  };
  if (await accepts(connection, publish("", queue))) return bytes;
  await accepts(connection, async (channel) => {
    await channel.bindQueue(queue, exchange, "signal.#");
    await publish(exchange, "signal.mine")(channel);
  });
  return bytes;
}
