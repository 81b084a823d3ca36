// Tests of clients in several languages, each with the transports that are its default, and with long-polling only: join, send, get the
// acknowledgement, lose the connection, resume.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { describe, test } from "node:test";

import { numbered } from "../lib/member.mjs";
import { until } from "../lib/wait.mjs";
import { Program } from "./program.mjs";
import { join, rooms } from "./room.mjs";

const cache = process.env.PAPO_CACHE ?? `${homedir()}/.cache/papo`;
/** Programs that can run at the same time. */
const CONCURRENCY = 5;

const clients = {
  "the newest socket.io-client": ["node", "programs/node.mjs", "socket.io-client"],
  "socket.io-client 4.0": ["node", "programs/node.mjs", "socket.io-client-4.0"],
  "python-socketio": [`${cache}/venv/bin/python`, "-B", "programs/python.py"],
  "the Java client": ["java", "-cp", `${cache}/clients/java:${cache}/clients/java/jars/*`, "Java"],
  rust_socketio: [`${cache}/clients/rust/debug/papo-client-program`],
};
/** Why a client's test is skipped: one whose tools are missing, and one that cannot do it with any server. */
function skipped(client, transport) {
  if (client === "the Java client" && !existsSync(`${cache}/clients/java/Java.class`)) return "the machine has no JDK or no Maven";
  // Its stream of packets does not end when a poll fails, so it polls for ever.
  return client === "rust_socketio" && transport === "polling" && "rust_socketio 0.6 does not notice that a long-polling session has ended";
}

for (const [where, start] of rooms) {
  describe(where, { concurrency: CONCURRENCY }, () => {
    for (const [client, command] of Object.entries(clients)) {
      for (const transport of [undefined, "polling"]) {
        const how = transport ? "long-polling only" : "its default transports";
        test(`${client} with ${how} resumes without loss and without repetition`, { skip: skipped(client, transport) }, async (t) => {
          const { there, balancer } = await start(t);
          const ana = await join(t, there, "Ana");
          const bia = await Program.start(t, command, balancer.url, { name: "Bia", transport });
          if (!transport) await until("Bia has upgraded", () => balancer.upgraded === 1);
          const answer = await bia.say("olá 😀");
          const { id, offset, epoch, user } = await ana.sees("olá 😀").then((message) => ({ epoch: ana.epoch, ...message }));
          assert.deepEqual([answer, user], [{ ok: true, id, offset, epoch }, "Bia"]);
          await ana.say(...numbered(20));
          await bia.sees("m 20");

          balancer.cut();
          await bia.isCut();
          await ana.say(...numbered(100, "missed"));
          balancer.mend();
          await bia.hasJoined(2);
          await ana.say(...numbered(20, "after"));
          await bia.sees("after 20");
          assert.equal((await bia.say("até")).ok, true);
          await bia.sees("até");
          if (!transport) await until("Bia has upgraded again", () => balancer.upgraded === 1);
          const all = ["olá 😀", ...numbered(20), ...numbered(100, "missed"), ...numbered(20, "after"), "até"];
          assert.deepEqual(bia.texts, all);
          assert.deepEqual(bia.histories.map(({ recovered }) => recovered), [false, true]);
          assert.equal(balancer.upgraded, transport ? 0 : 1);
        });
      }
    }
  });
}
