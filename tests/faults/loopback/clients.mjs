// Faults of clients, on purpose or not.

import { randomUUID } from "node:crypto";

import { Member } from "../../lib/member.mjs";
import { lasting, until } from "../../lib/wait.mjs";
import { Wire, frame } from "../../lib/wire.mjs";

const padded = (bytes) => (member, n) => `${member.name} ${n} `.padEnd(bytes, "-");

export default [
  {
    number: 11,
    title: "five clients read nothing for 60 s",
    text: padded(1200),
    async run({ members, expect }) {
      const stalled = members.slice(-5);
      for (const member of stalled) member.tcp.pause();
      await lasting(60);
      const end = Date.now();
      for (const member of stalled) member.tcp?.resume();
      await until("the clients are connected again", () => stalled.every(({ socket }) => socket.connected), 30);
      expect(stalled.every(({ closes }) => closes.length > 0), "a client that read nothing for 60 s was not closed");
      return { end };
    },
  },
  {
    number: 13,
    title: "a client gone longer than retention",
    text: padded(2000),
    flags: ["--retention-bytes", "5000000"],
    async run({ place, members: [member], expect }) {
      const away = await Member.join(place.url, "away");
      await until("the client was shown a message", () => away.offset !== undefined);
      away.leave();
      const left = away.offset;
      await until("retention has removed the client's last message", async () => (await place.log(member.epoch, left)).head > left, 120);
      // A restart removes the messages from the windows of the servers too.
      for (const server of place.servers) {
        await server.kill();
        await server.start();
      }
      away.comeBack();
      const end = Date.now();
      await until("the client is shown newer messages", () => away.offset > left);
      const gap = away.notices.find(({ kind }) => kind === "gap");
      expect(gap && gap.from <= left + 1 && gap.to > left, `the client got no notice of the gap after ${left}: ${JSON.stringify(away.notices)}`);
      return { end, others: [away], note: gap && `notice of the gap ${gap.from} to ${gap.to}` };
    },
  },
  {
    number: 14,
    title: "a client resumes with the epoch of another log",
    run: ({ place, expect }) => invalidPositions(place, expect, [{ epoch: "0123456789abcdef", offset: 3 }]),
  },
  {
    number: 15,
    title: "a client resumes with an offset beyond the log",
    run: ({ place, expect, members: [{ epoch }] }) => {
      const offsets = [1e15, 2 ** 53, 1e300, -1, -(2 ** 63), 1.5, "7", "abc", "", null, true, [], {}, [1], "18446744073709551616"];
      return invalidPositions(place, expect, offsets.map((offset) => ({ epoch, offset })));
    },
  },
  {
    number: 16,
    title: "the same id sent twice at once by two servers",
    quick: true,
    async run({ place, expect }) {
      const token = randomUUID();
      const twins = await Promise.all(place.servers.slice(0, 2).map(({ url }, n) => Member.join(url, { name: `twin ${n + 1}`, token })));
      for (let n = 0; n < 100; n++) {
        const id = randomUUID();
        const [one, other] = await Promise.all(twins.map((twin) => twin.send(`twin ${n}`, id)));
        const places = [one, other].map(({ acknowledged }) => acknowledged?.offset);
        expect(places[0] !== undefined && places[0] === places[1], `${id} was acknowledged at the offsets ${places}`);
      }
      return { end: Date.now(), others: twins };
    },
    check: ({ duplicates }, expect) => expect(duplicates > 0, "no message was stored twice, so nothing was hidden"),
  },
  {
    number: 24,
    title: "64 MiB frame, malformed packets, 10,000 events a second from one client",
    async run({ place: { servers }, expect }) {
      const [server] = servers;
      const { pid } = server;
      const resident = () => server.resident();
      const before = resident();
      const endings = await Promise.all([
        hostile(server.port, (socket) => socket.write(frame(0x1, 64 * 2 ** 20, Buffer.alloc(2 ** 20, "x")))),
        ...["4{", "42[", '42["message"', "4999999999999999999999[]", "zzz", "42[[[[[[[[", "4\u0000"].map((text) =>
          hostile(server.port, (socket) => socket.write(frame(0x1, Buffer.byteLength(text), Buffer.from(text)))),
        ),
        hostile(server.port, (socket) => socket.write(frame(0x1, 4, Buffer.from([0x34, 0xff, 0xfe, 0xfd])))),
        hostile(server.port, (socket) => socket.write(Buffer.from("\xff\xff\xff\xff not WebSocket", "latin1"))),
        flood(server.port, 100_000, 10),
      ]);
      expect(endings.every(Boolean), `a hostile connection was left open: ${endings}`);
      expect(server.pid === pid && server.ready, "the server did not stay up");
      return { end: Date.now(), note: `resident ${mib(before)} MiB before, ${mib(resident())} after` };
    },
  },
];

const mib = (bytes) => Math.round(bytes / 2 ** 20);

/** Joins with positions that do not exist: each client must get the newest page. */
async function invalidPositions(place, expect, positions) {
  const visitors = [];
  for (const position of positions) {
    const visitor = new Member(place.url, { token: randomUUID(), ...position });
    const name = `the client with ${JSON.stringify(position)}`;
    await until(`${name} gets an answer`, () => visitor.epoch || visitor.closes.length > 0);
    const [page] = visitor.notices;
    expect(page?.recovered === false, `${name} was not given a new page: ${JSON.stringify(visitor.notices)} ${visitor.closes}`);
    visitors.push(visitor);
  }
  return { end: Date.now(), others: visitors };
}

/** Joins, calls `act` with the socket, and returns whether the server closed the connection. */
async function hostile(port, act) {
  const { socket } = await Wire.join({ port });
  act(socket);
  const closed = await until("the server closes the connection", () => socket.closed || socket.readableEnded || socket.destroyed, 20).catch(() => false);
  socket.destroy();
  return closed;
}

/** Sends `count` events within `seconds`, as fast as the socket accepts them. The server may rate-limit or close the connection. */
async function flood(port, count, seconds) {
  const { socket } = await Wire.join({ port });
  const event = Buffer.from('42["message","flood"]');
  const packet = frame(0x1, event.length, event);
  const batch = Buffer.concat(Array(100).fill(packet));
  for (let sent = 0; sent < count && !socket.destroyed; sent += 100) {
    if (!socket.write(batch)) await Promise.race([new Promise((drained) => socket.once("drain", drained)), lasting(1)]);
    await lasting((seconds * 100) / count / 2);
  }
  socket.destroy();
  return true;
}
