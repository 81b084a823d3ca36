// Requests that never end, on both ports (44).

import { connect } from "node:net";

import { lasting } from "../../lib/wait.mjs";
import { Wire } from "../../lib/wire.mjs";
import { inLoops } from "../lib/loops.mjs";

const ADDRESS = "127.0.0.8";
/** Sockets of each kind that are open at once. An admin port lets a peer have 24. */
const PUBLIC = 60;
const ADMIN = 5;
/** The bounds of a first head and of an idle connection, in seconds (docs/limits.md), and what a slow machine may add. */
const HEAD = 10;
const IDLE = 75;
const SLACK = 4;

const LINE = `X-Line: ${"x".repeat(1_000)}\r\n`;
const begin = "GET / HTTP/1.1\r\nHost: x\r\n";

/** What a socket of each kind does, and how long it may live. */
const KINDS = {
  silent: { most: HEAD, act: () => {} },
  half: { most: HEAD, act: (socket) => socket.write(begin) },
  endless: { most: HEAD, act: (socket) => (socket.write(begin), flow(socket, LINE.repeat(50))) },
  dripping: { most: HEAD, act: (socket) => (socket.write(begin), every(socket, 500, () => socket.write("x"))) },
  idle: { most: IDLE, act: (socket) => socket.write(`${begin}\r\n`) },
};
/** A WebSocket that sends no CONNECT packet. */
const MUTE = "mute";

export const sockets = ({ settings }) => [
  { module: import.meta.url, name: "hold", address: ADDRESS, kinds: kindsOf(settings), public: PUBLIC, admin: ADMIN },
];
/** A quick run does not wait for what lives longest. */
const kindsOf = ({ quick }) => Object.keys(KINDS).filter((kind) => !quick || kind !== "idle");

export default [
  {
    number: "44",
    title: "silent, half-sent, endless, dripping and idle requests on both ports",
    bound: "10 s for a head, 16 KiB; 75 s idle; 10 s to CONNECT; 64 sockets beyond the connections of an address; admin port: 24 of a peer",
    quick: true,
    seconds: ({ quick }) => (quick ? HEAD + SLACK + 2 : IDLE + SLACK + 6),
    attackers: sockets,
    judge({ row: { counts: [counts], beside }, settings, expect }) {
      const lives = [];
      for (const kind of [...kindsOf(settings), MUTE]) {
        const most = (KINDS[kind]?.most ?? HEAD) + SLACK;
        for (const port of kind === MUTE ? ["public"] : ["public", "admin"]) {
          const longest = counts[`${kind} ${port}`];
          expect(longest !== undefined && longest <= most, `a socket of the kind '${kind}' lived for ${longest?.toFixed(1)} s on the ${port} port, not at most ${most} s`);
          lives.push(`${kind} ${longest?.toFixed(1)} s${port === "admin" ? " (admin)" : ""}`);
        }
      }
      return `${counts.sockets} sockets; the longest lives: ${lives.join(", ")}; probes within ${beside.probe.toFixed(0)} ms`;
    },
  },
];

/** Holds sockets of each kind open for as long as the server lets it, and opens new ones in their place. */
export async function hold({ port, adminPort, address, kinds, ...each }, { count, largest, signal }) {
  const ports = { public: port, admin: adminPort };
  const held = ([name, kind]) =>
    inLoops(each[name], signal, (done) => {
      const began = performance.now();
      count("sockets");
      const socket = connect({ host: "127.0.0.1", port: ports[name], localAddress: address });
      socket.on("error", () => {});
      socket.on("data", () => {});
      // One that is open when the attack ends has lived so long at least.
      socket.on("close", () => (largest(`${kind} ${name}`, (performance.now() - began) / 1000), setTimeout(done, 100)));
      KINDS[kind].act(socket);
      return { hangUp: () => socket.resetAndDestroy() };
    });
  const mute = inLoops(each.public, signal, (done) => {
    const began = performance.now();
    const wire = new Wire(
      { port, localAddress: address },
      { end: () => (largest(`${MUTE} public`, (performance.now() - began) / 1000), setTimeout(done, 100)) },
    );
    return wire;
  });
  const pairs = kinds.flatMap((kind) => Object.keys(ports).map((name) => [name, kind]));
  await Promise.all([mute, ...pairs.map(held)]);
}

/** Calls `act` every so many milliseconds while the socket is open. */
function every(socket, milliseconds, act) {
  const timer = setInterval(act, milliseconds);
  socket.on("close", () => clearInterval(timer));
}

/** Sends a text again and again, as fast as the socket takes it. */
async function flow(socket, text) {
  while (!socket.destroyed) if (!socket.write(text)) await Promise.race([new Promise((drained) => socket.once("drain", drained)), lasting(1)]);
}
