// Faults of the servers.

import { lasting, until } from "../../lib/wait.mjs";

/** Seconds that the operator's Deployment gives a pod after SIGTERM, with the drain period of these servers: `Launch::grace_period`. */
const GRACE_SECONDS = 3 + 15 + 5;

export default [
  {
    number: 1,
    title: "kill -9 a server under load",
    quick: true,
    within: 5,
    async run({ place: { servers } }) {
      const end = Date.now();
      await servers[0].kill();
      await lasting(3);
      await servers[0].start();
      return { end };
    },
  },
  {
    number: 2,
    title: "SIGTERM a server",
    within: 5,
    async run({ place: { servers }, members, expect }) {
      const rejected = rejections(members);
      const { code, seconds } = await servers[0].terminate();
      const end = Date.now();
      expect(code === 0, `the server exited with ${code}`);
      expect(seconds < GRACE_SECONDS, `the server stopped after ${seconds} s, but the grace period is ${GRACE_SECONDS} s`);
      expect(rejections(members) === rejected, "messages were rejected");
      await servers[0].start();
      return { end, note: `exit ${code} after ${seconds.toFixed(1)} s` };
    },
  },
  {
    number: 17,
    title: "three servers, concurrent senders: one order",
    run: async () => ({ end: Date.now() }),
  },
  {
    number: "17b",
    title: "one sender's 20,000 messages as fast as it can",
    flags: ["--message-burst", "100000", "--max-messages-per-second", "100000"],
    async run({ members: [member] }) {
      const begun = Date.now();
      const pending = new Set();
      for (let n = 1; n <= 20_000; n++) {
        const sending = member.send(`in order ${n}`).finally(() => pending.delete(sending));
        pending.add(sending);
        // A connection may have 4096 messages that wait for an acknowledgement; the rest is for those of the regular traffic.
        if (pending.size >= 4000) await Promise.race(pending);
      }
      await Promise.all(pending);
      const end = Date.now();
      return { end, note: `${Math.round(20_000_000 / (end - begun))} messages/s` };
    },
  },
  {
    number: 18,
    title: "rolling restart of all servers",
    async run({ place: { servers }, expect }) {
      for (const server of servers) {
        const { code } = await server.terminate();
        expect(code === 0, `${server.name} exited with ${code}`);
        await server.start();
      }
      return { end: Date.now() };
    },
  },
  {
    number: 19,
    title: "all clients cut off at once",
    async run({ place: { front }, members }) {
      const before = members.map(({ connections }) => connections);
      const end = Date.now();
      front.reset();
      await until("all are connected again", () => members.every((member, n) => member.connections > before[n] && member.socket.connected));
      return { end, note: `all connected again after ${((Date.now() - end) / 1000).toFixed(1)} s` };
    },
  },
];

/** The number of final rejections, which the page shows as errors. */
const rejections = (members) => members.reduce((sum, { rejected }) => sum + rejected.length, 0);
