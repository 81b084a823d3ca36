// Faults of the network between servers and RabbitMQ, and between clients and servers.

import { lasting, until } from "../../lib/wait.mjs";

/** Seconds between the heartbeats of a server's connections; a server closes a connection after two missing heartbeats. */
const HEARTBEAT = 5;
/** Seconds that the probe and the end of a connection may add. */
const SLACK = 2;

export default [
  {
    number: 6,
    title: "link between a server and the broker silently cut for 30 s",
    async run({ place: { servers }, expect }) {
      const [server] = servers;
      const cut = Date.now();
      server.link.silence();
      await until("the server is not ready", () => !server.ready, 60);
      const noticed = (Date.now() - cut) / 1000;
      expect(noticed <= 2 * HEARTBEAT + SLACK, `the server was not ready only after ${noticed} s`);
      await lasting(30 - noticed);
      server.link.speak();
      return { end: Date.now(), note: `unready after ${noticed.toFixed(1)} s` };
    },
  },
  {
    number: 7,
    title: "reset between a server and the broker, confirms lost",
    quick: true,
    async run({ place: { servers } }) {
      for (let round = 0; round < 5; round++) {
        servers[0].link.silence({ up: false, down: true });
        await lasting(0.5);
        servers[0].link.reset();
        servers[0].link.speak();
        await lasting(2);
      }
      return { end: Date.now() };
    },
    // Without a duplicate the fault did not test the handling of lost confirms.
    check: ({ duplicates }, expect) => expect(duplicates > 0, "no message was stored twice, so nothing was hidden"),
  },
  {
    number: 10,
    title: "broker 200 ms away, ±50 ms, for 20 s",
    async run({ place: { servers } }) {
      for (const { link } of servers) link.delay(200, 50);
      await lasting(20);
      for (const { link } of servers) link.delay(0);
      return { end: Date.now() };
    },
  },
  {
    number: 12,
    title: "clients cut off in the middle of a frame, three times",
    quick: true,
    async run({ place: { front }, expect }) {
      for (let round = 0; round < 3; round++) {
        expect(front.cutMidway(20) === 20, "fewer than 20 connections were open");
        await lasting(2);
      }
      return { end: Date.now() };
    },
  },
];
