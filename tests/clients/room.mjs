// The rooms of these tests: one server with its own log, or two servers that share a RabbitMQ (PAPO_TEST_AMQP).

import { randomBytes } from "node:crypto";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as pathOf } from "node:path";

import { Member } from "../lib/member.mjs";
import { Proxy } from "../lib/proxy.mjs";
import { PapoServer } from "../lib/server.mjs";

/** The kinds of rooms in this run: a name for the test's title, and a function that starts the room. */
export const rooms = [["a single server", startAlone]];
if (process.env.PAPO_TEST_AMQP) rooms.push(["two servers that share RabbitMQ", startTwo]);

/** Flags without a rate limit, unless the test sets one. */
const fast = (flags) => (flags.includes("--message-burst") ? flags : ["--message-burst", "100000", ...flags]);

async function startAlone(t, ...flags) {
  const server = await PapoServer.start(t, ...fast(flags));
  const balancer = await Proxy.to(server.port, { test: t });
  return { servers: [server], here: server.url, there: server.url, balanced: server.url, balancer };
}

/** Two servers that share a RabbitMQ. */
export async function startTwo(t, ...flags) {
  const room = `default/clients-${randomBytes(6).toString("hex")}`;
  return startShared(t, "--broker", process.env.PAPO_TEST_AMQP, "--declare", "--room", room, ...fast(flags));
}

/**
 * Two servers that know each other's sessions, and a balancer in front of them without sticky sessions: each connection goes to the next
 * server. Without a broker each of them has a log of its own.
 */
export async function startShared(t, ...flags) {
  const key = pathOf(tmpdir(), `papo-session-key-${randomBytes(6).toString("hex")}`);
  await writeFile(key, randomBytes(32).toString("hex"), { mode: 0o600 });
  t.after(() => rm(key));
  const start = () => PapoServer.start(t, "--session-key", key, "--advertise", "127.0.0.1", ...flags);
  const servers = [await start(), await start()];
  let next = 0;
  const balancer = await Proxy.to(() => ({ port: servers[next++ % servers.length].port }), { test: t });
  return { servers, here: servers[0].url, there: servers[1].url, balanced: balancer.url, balancer };
}

/** Joins for the test `t`. */
export const join = (t, url, auth, options) => Member.join(url, auth, { test: t, ...options });
