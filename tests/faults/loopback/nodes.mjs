// Faults of a RabbitMQ with three nodes. Each server begins at another node.

import { connect } from "node:net";

import { logOf } from "../../lib/broker.mjs";
import { lasting, until } from "../../lib/wait.mjs";

/** Seconds after which Erlang gives up a node that is silent: RabbitMQ's `net_ticktime`, and a quarter more. */
const NODE_LOST = 75;

const faults = [
  {
    number: 31,
    title: "kill -9 the node that leads the log, back after 10 s",
    async run({ log, broker, members }) {
      const leader = await broker.leader(log);
      const end = Date.now();
      await leader.kill();
      const [again] = await Promise.all([talkedAgain(members, end), lasting(10)]);
      await leader.restart();
      return { end, note: `messages acknowledged again after ${again} s` };
    },
  },
  {
    number: 32,
    title: "each node killed and started, one after the other",
    async run({ broker, members }) {
      const again = [];
      let end;
      for (const node of broker.nodes) {
        end = Date.now();
        await node.kill();
        again.push(await talkedAgain(members, end));
        await node.restart();
      }
      return { end, note: `messages acknowledged again after ${again.join(", ")} s` };
    },
  },
  {
    number: 33,
    title: "two of three nodes down for 20 s",
    async run({ log, broker, members, expect }) {
      const leader = await broker.leader(log);
      const [other] = broker.nodes.filter((node) => node !== leader);
      await Promise.all([leader.kill(), other.kill()]);
      const down = Date.now();
      // Acknowledgements that were under way still arrive.
      await lasting(1);
      const counted = acknowledged(members);
      await lasting(20 - (Date.now() - down) / 1000);
      expect(acknowledged(members) === counted, `one of three nodes acknowledged ${acknowledged(members) - counted} messages`);
      await Promise.all([leader.restart(), other.restart()]);
      return { end: Date.now() };
    },
  },
  {
    number: 34,
    title: "SIGSTOP the node that leads the log for 40 s",
    async run({ log, broker, members }) {
      const leader = await broker.leader(log);
      const stopped = Date.now();
      await leader.pause();
      const [again] = await Promise.all([talkedAgain(members, stopped), lasting(40)]);
      await leader.resume();
      return { end: Date.now(), note: `messages acknowledged again after ${again} s` };
    },
  },
  {
    number: 35,
    title: "the node that leads the log cut off from the others, healed",
    async run({ log, broker, members }) {
      const leader = await broker.leader(log);
      const cut = Date.now();
      await leader.cut();
      const [again] = await Promise.all([talkedAgain(members, cut), lasting(NODE_LOST + 15)]);
      await leader.mend();
      return { end: Date.now(), note: `messages acknowledged again after ${again} s` };
    },
  },
  {
    number: 36,
    title: "servers start while replicas still start, and on a node that has none",
    async run({ log, broker, place: { servers } }) {
      const leader = await broker.leader(log);
      const place = broker.nodes.findIndex((node) => node !== leader);
      await leader.streams("delete_replica", log, broker.nodes[place].name);
      await servers[place].kill();
      const without = await seconds(() => servers[place].start());
      await leader.streams("add_replica", log, broker.nodes[place].name);

      await Promise.all([...servers, ...broker.nodes].map((one) => one.kill()));
      const starting = Promise.all(broker.nodes.map((node) => node.restart()));
      // A server starts as soon as its node accepts connections, which is before the node has replicas.
      const begun = await Promise.all(
        servers.map(async (server, n) => {
          await until(`${broker.nodes[n].name} listens`, () => listens(broker.nodes[n]), 120);
          return seconds(() => server.start());
        }),
      );
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
      const end = Date.now();
      await leader.kill();
      await leader.stop();
      const again = await talkedAgain(members, end);
      await leader.restart();
      const whole = await broker.inSync(log);
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
