// The rooms of these tests: one server with its own log, or two servers that share a RabbitMQ (PAPO_TEST_AMQP).

import { randomBytes } from "node:crypto";

import { Member } from "../lib/member.mjs";
import { PapoServer } from "../lib/server.mjs";

/** The kinds of rooms in this run: a name for the test's title, and a function that starts the room. */
export const rooms = [["a single server", startAlone]];
if (process.env.PAPO_TEST_AMQP) rooms.push(["two servers that share RabbitMQ", startTwo]);

/** Flags without a rate limit, unless the test sets one. */
const fast = (flags) => (flags.includes("--message-burst") ? flags : ["--message-burst", "100000", ...flags]);

async function startAlone(t, ...flags) {
  const server = await PapoServer.start(t, ...fast(flags));
  return { servers: [server], here: server.url, there: server.url };
}

async function startTwo(t, ...flags) {
  const room = `default/clients-${randomBytes(6).toString("hex")}`;
  const start = () => PapoServer.start(t, "--broker", process.env.PAPO_TEST_AMQP, "--declare", "--room", room, ...fast(flags));
  const servers = [await start(), await start()];
  return { servers, here: servers[0].url, there: servers[1].url };
}

/** Joins for the test `t`. */
export const join = (t, url, auth, options) => Member.join(url, auth, { test: t, ...options });
