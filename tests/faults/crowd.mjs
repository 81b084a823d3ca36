// Two faults with many members: 100 of 1,000 members stop reading, and 5,000 members reconnect at the same time.

import { execFileSync, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

import { LocalBroker, VHOST, exchangeOf } from "../lib/broker.mjs";
import { binary } from "../lib/server.mjs";
import { lasting, until } from "../lib/wait.mjs";
import { Loopback } from "./lib/loopback.mjs";

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    members: { type: "string" },
    rate: { type: "string" },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log(`usage: make crowd [ARGS="--only slow|storm --members N --rate N"]
  slow    1000 members on one server, 100 of them stop reading; 20 messages/s of 1 kB
  storm   5000 members on one server, which is killed; 5 messages/s`);
  process.exit();
}

/** The crowd, as a process of its own. */
class Crowd {
  #answers = [];

  constructor({ servers, talker, members, stalling = 0, rate, bytes = 64 }) {
    const address = ({ port }) => `127.0.0.1:${port}`;
    this.addresses = (list) => list.map(address).join(",");
    const program = process.env.PAPO_CROWD ?? binary().replace(/papo-server$/, "papo-crowd");
    const flags = { servers: this.addresses(servers), talker: address(talker), members, stalling, rate, bytes };
    this.process = spawn(program, Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)]), { stdio: ["pipe", "pipe", "inherit"] });
    createInterface({ input: this.process.stdout }).on("line", (line) => this.#answers.shift()(JSON.parse(line)));
    this.process.on("exit", (code) => code && fail(`the crowd ended with ${code}`));
    Crowd.last = this;
  }

  command = (command) => this.process.stdin.write(`${command}\n`);
  moveTo = (servers) => this.command(`servers ${this.addresses(servers)}`);

  report() {
    this.command("report");
    return new Promise((answer) => this.#answers.push(answer));
  }

  end = () => this.process.kill();
}

const broker = await LocalBroker.start();
const wrong = [];
const expect = (holds, otherwise) => holds || wrong.push(otherwise);
try {
  console.log(`${binary()}, RabbitMQ ${await broker.version()}`);
  for (const [name, make] of Object.entries({ slow, storm })) {
    if (values.only && values.only !== name) continue;
    const place = await Loopback.start(broker, ["--max-connections", "20000"]);
    try {
      await make(place, Number(values.members), Number(values.rate));
    } catch (error) {
      wrong.push(`${name}: ${error.message}`);
    } finally {
      Crowd.last?.end();
      await place.stop();
    }
  }
} finally {
  await broker.stop();
}
for (const line of wrong) console.log(`FAILED: ${line}`);
process.exit(wrong.length ? 1 : 0);

async function slow(place, members, rate) {
  const [server] = place.servers;
  const count = members || 1000;
  const stalling = Math.round(count / 10);
  const crowd = new Crowd({ servers: [server], talker: server, members: count, stalling, rate: rate || 20, bytes: 1000 });
  await upToDate(crowd, count, 60);
  await crowd.report();
  await lasting(20);
  const before = { ...(await crowd.report()), resident: server.resident(), kernel: socketMemory() };
  crowd.command("stall");
  let resident = 0;
  let kernel = 0;
  for (let second = 0; second < 60; second++) {
    await lasting(0.5);
    resident = Math.max(resident, server.resident());
    kernel = Math.max(kernel, socketMemory());
  }
  const during = await crowd.report();
  const closed = await server.metric('papo_connections_closed_total{reason="slow_reader"}');
  crowd.command("read");
  const resumed = Date.now();
  await upToDate(crowd, count, 60);
  const after = await crowd.report();
  console.log(
    `slow: ${count} members, ${stalling} of them read nothing for 30 s: p99 of the others ${before.p99} ms before, ${during.p99} ms during (p50 ${before.p50}, ${during.p50}); ` +
      `server ${mib(before.resident)} MiB before, at most ${mib(resident)} during; sockets of this machine ${mib(before.kernel)} MiB before, at most ${mib(kernel)}; ` +
      `${closed} closed as slow_reader; all were up to date ${((Date.now() - resumed) / 1000).toFixed(1)} s after they read again; ` +
      `${during.holes + after.holes} holes, ${during.repeated + after.repeated} repeated`,
  );
  expect(during.holes + after.holes + during.repeated + after.repeated === 0, "something was lost or repeated");
  expect(closed >= stalling, `the server closed only ${closed} of ${stalling} members that read nothing as slow readers`);
  expect(during.p99 <= Math.max(before.p99 * 1.25, before.p99 + 2), `the others' p99 rose from ${before.p99} to ${during.p99} ms`);
}

async function storm(place, members, rate) {
  const count = members || 5000;
  const [victim, ...others] = place.servers;
  const crowd = new Crowd({ servers: [victim], talker: others[1], members: count, rate: rate || 5 });
  await upToDate(crowd, count, 120);
  await crowd.report();
  const before = others.map((server) => server.resident());
  const [{ name: stream }] = (await broker.call("GET", `queues/${VHOST}`)).filter(({ name }) => name.startsWith(`${exchangeOf(place.room)}.log.`));
  crowd.moveTo(others);
  await victim.kill();
  const killed = Date.now();
  const seconds = () => (Date.now() - killed) / 1000;
  let [most, holes, repeated] = [0, 0, 0];
  const resident = [0, 0];
  const reached = {};
  await until(
    "all members have joined again and were shown every message",
    async () => {
      const at = seconds();
      const { readersUpToDate, connections, ...report } = await crowd.report();
      holes += report.holes;
      repeated += report.repeated;
      others.forEach((server, n) => (resident[n] = Math.max(resident[n], server.resident())));
      const { consumers = 0 } = await broker.queue(stream);
      most = Math.max(most, consumers);
      // The first report after the kill still counts by the messages sent before it, so members must also have connected a second time.
      if (readersUpToDate >= 0.99 * count && connections >= 1.99 * count) reached.most ??= at;
      if (readersUpToDate >= count && connections >= 2 * count) reached.all ??= at;
      await lasting(0.2);
      return reached.all;
    },
    120,
  );
  console.log(
    `storm: ${count} members of a killed server: 99 % had joined again and were up to date after ${reached.most.toFixed(1)} s, all after ${reached.all.toFixed(1)} s; ` +
      `at most ${most} readers of the log at the broker (one per server, and those for messages older than the window); ` +
      `the two others had ${before.map(mib)} MiB before and at most ${resident.map(mib)}; ${holes} holes, ${repeated} repeated`,
  );
  expect(holes + repeated === 0, "something was lost or repeated");
  expect(most <= 2 * others.length, `${most} readers at the broker`);
}

function mib(bytes) {
  return Math.round(bytes / 2 ** 20);
}

/** Waits until this many members have been shown every message. */
function upToDate(crowd, count, seconds) {
  const allUpToDate = async () => {
    const { readersUpToDate, stallersUpToDate, said } = await crowd.report();
    if (said > 0 && readersUpToDate + stallersUpToDate >= count) return true;
    throw new Error(`${readersUpToDate + stallersUpToDate} are up to date`);
  };
  return until(`${count} members have joined and are up to date`, allUpToDate, seconds);
}

/** Bytes that the kernel uses for the TCP sockets of this machine. */
function socketMemory() {
  const page = Number(execFileSync("getconf", ["PAGESIZE"]));
  return Number(readFileSync("/proc/net/sockstat", "utf8").match(/^TCP:.* mem (\d+)/m)[1]) * page;
}

function fail(why) {
  console.error(`crowd: ${why}`);
  process.exit(1);
}
