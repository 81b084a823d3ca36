// Faults of a RabbitMQ with three nodes.

import { connect } from "node:net";

import { logOf } from "../../lib/broker.mjs";
import { lasting, until } from "../../lib/wait.mjs";

/** Seconds for which a node is silent. The others give it up after the cluster's `net_ticktime` and a quarter; then another one leads. */
const SILENT = 40;

/** The metric of servers whose reader met a node that has no replica of the log. */
const MET_NO_REPLICA = 'papo_broker_moves_total{connection="reader",reason="no_replica"}';

const faults = [
  {
    number: 31,
    title: "kill -9 the node that leads the log, back after 10 s",
    async run({ log, broker, members }) {
      const leader = await broker.leader(log);
      await leader.kill();
      const end = Date.now();
      await lasting(10);
      await leader.restart();
      return { end, note: `messages acknowledged again after ${await talkedAgain(members, end)} s` };
    },
  },
  {
    number: 32,
    title: "each node killed and started, one after the other",
    async run({ broker, members }) {
      const again = [];
      let end;
      for (const node of broker.nodes) {
        await node.kill();
        end = Date.now();
        await node.restart();
        again.push(await talkedAgain(members, end));
      }
      return { end, note: `messages acknowledged again after ${again.join(", ")} s` };
    },
  },
  {
    number: 33,
    title: "two of three nodes down for 20 s",
    async run({ log, broker, members, expect }) {
      // The leader stays, and could acknowledge what only it has.
      const leader = await broker.leader(log);
      const others = broker.nodes.filter((node) => node !== leader);
      await Promise.all(others.map((node) => node.kill()));
      const down = Date.now();
      // Acknowledgements that were under way still arrive.
      await lasting(1);
      const counted = acknowledged(members);
      await lasting(20 - (Date.now() - down) / 1000);
      expect(acknowledged(members) === counted, `one of three nodes acknowledged ${acknowledged(members) - counted} messages`);
      await Promise.all(others.map((node) => node.restart()));
      return { end: Date.now() };
    },
  },
  {
    number: 34,
    title: "SIGSTOP the node that leads the log for 40 s",
    run: ({ log, broker, members, expect }) => silent(broker, log, members, expect, ["pause", "resume"]),
  },
  {
    number: 35,
    title: "the node that leads the log silently cut off from the others, healed",
    run: ({ log, broker, members, expect }) => silent(broker, log, members, expect, ["cut", "mend"]),
  },
  {
    number: 36,
    title: "servers start while replicas still start, and on a node that has none",
    async run({ log, broker, place: { servers } }) {
      const leader = await broker.leader(log);
      const other = broker.nodes.find((node) => node !== leader);
      await leader.streams("delete_replica", log, other.name);
      // A server begins with one of three nodes by chance, so it starts again until it has met the one without a replica.
      const [server] = servers;
      let without;
      await until("a server has met the node without a replica", async () => {
        await server.kill();
        without = await seconds(() => server.start());
        return server.metric(MET_NO_REPLICA);
      });
      await leader.streams("add_replica", log, other.name);

      await Promise.all([...servers, ...broker.nodes].map((one) => one.kill()));
      const starting = Promise.all(broker.nodes.map((node) => node.restart()));
      // They start as soon as a node accepts connections, which is before the nodes have replicas.
      await until("a node listens", async () => (await Promise.all(broker.nodes.map(listens))).includes(true), 120);
      const begun = await Promise.all(servers.map((one) => seconds(() => one.start())));
      const end = Date.now();
      await starting;
      return { end, note: `ready ${without} s after the start on a node without a replica, and ${begun.join(", ")} s while replicas started` };
    },
  },
  {
    number: 37,
    title: "the node that leads the log loses its data, and joins again",
    async run({ log, broker, members }) {
      const leader = await broker.leader(log);
      await leader.kill();
      const end = Date.now();
      await leader.stop();
      await lasting(5);
      await leader.restart();
      const again = await talkedAgain(members, end);
      const whole = await broker.inSync(log);
      // docs/promises.md says to run this; the servers use the other nodes until then.
      await broker.nodes.find((node) => node !== leader).removeFromCoordinator(leader);
      return { end, note: `messages acknowledged again after ${again} s; whole replica ${whole.toFixed(1)} s after the node was back` };
    },
  },
];

/** Each fault begins with three nodes that run. No server may end in it, except those that the fault itself ends. */
export default faults.map(({ run, ...fault }) => ({
  nodes: 3,
  prepare: ({ broker }) => broker.whole(),
  async run(context) {
    const { place, members, expect } = context;
    const result = await run({ ...context, log: logOf(place.room, members[0].epoch) });
    await until("all servers are ready", () => place.servers.every(({ ready }) => ready));
    for (const server of place.servers) expect(!server.hasEnded, `${server.name} has ended`);
    return result;
  },
  ...fault,
}));

/** The leader says nothing for a while; another node must lead before it speaks again. */
async function silent(broker, log, members, expect, [begin, end]) {
  const leader = await broker.leader(log);
  await leader[begin]();
  const begun = Date.now();
  await lasting(SILENT);
  await leader[end]();
  const ended = Date.now();
  const again = await talkedAgain(members, begun);
  expect(again < SILENT, `messages were acknowledged again only after ${again} s, when the leader was back`);
  return { end: ended, note: `messages acknowledged again after ${again} s, by another leader` };
}

const acknowledged = (members) => members.reduce((sum, { sent }) => sum + sent.filter((message) => message.acknowledged).length, 0);

/** Waits until a message was acknowledged that was sent after `time`; returns the seconds since then, with one digit. */
async function talkedAgain(members, time) {
  const isLater = ({ at, acknowledged: answer }) => at > time && answer;
  await until("a message is acknowledged again", () => members.some(({ sent }) => sent.some(isLater)), 120);
  const times = members.flatMap(({ sent }) => sent.filter(isLater).map(({ acknowledged: { at } }) => at));
  return ((Math.min(...times) - time) / 1000).toFixed(1);
}

/** Seconds that `work` takes, with one digit. */
async function seconds(work) {
  const begun = performance.now();
  await work();
  return ((performance.now() - begun) / 1000).toFixed(1);
}

function listens({ port }) {
  return new Promise((answer) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => (socket.destroy(), answer(true)));
    socket.once("error", () => answer(false));
  });
}
