// Causes each fault under traffic, compares the histories with the log, and prints a table.

import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";

import { LocalBroker } from "../lib/broker.mjs";
import { binary } from "../lib/server.mjs";
import { clusterFaults, loopbackFaults } from "./faults.mjs";
import { Loopback } from "./lib/loopback.mjs";
import { table } from "./lib/report.mjs";
import { trial } from "./lib/trial.mjs";

const USAGE = `usage: make faults [ARGS="..."]
  --quick             only the faults that CI causes, with less traffic before and after them
  --only 1,7,21b      only the faults with these numbers
  --list              print the faults and end
  --rate N            messages a second (200)
  --senders N         clients that send and read (50)
  --readers N         clients that only read (10)
  --cluster           cause the faults that need pods, in the cluster of KUBECONFIG (installs the chart, removes it last)
  --around SECONDS    seconds of traffic before and after each fault (15; 5 with --quick)
  --out DIR           folder for the table (target/faults)

PAPO_SERVER is the path of the server's binary. The run starts a RabbitMQ of its own.`;

const options = {
  quick: { type: "boolean", default: false },
  only: { type: "string" },
  cluster: { type: "boolean", default: false },
  list: { type: "boolean", default: false },
  rate: { type: "string", default: "200" },
  senders: { type: "string", default: "50" },
  readers: { type: "string", default: "10" },
  around: { type: "string" },
  out: { type: "string", default: "target/faults" },
  help: { type: "boolean", short: "h", default: false },
};

const { values } = parse();
const faults = await (values.cluster ? clusterFaults() : loopbackFaults());
if (values.list) {
  for (const { number, title, quick } of faults) console.log(`${String(number).padStart(4)}  ${title}${quick ? "  (quick)" : ""}`);
  process.exit();
}
const only = values.only?.split(",");
const unknown = only?.filter((number) => !faults.some((fault) => String(fault.number) === number)) ?? [];
if (unknown.length) fail(`there is no fault ${unknown}; --list prints them`);
const chosen = faults.filter((fault) => (only ? only.includes(String(fault.number)) : !values.quick || fault.quick));
const settings = {
  rate: number("rate"),
  senders: number("senders"),
  readers: number("readers"),
  around: values.around ? number("around") : values.quick ? 5 : 15,
};

const run = await (values.cluster ? inCluster() : onLoopback());
let status = 1;
try {
  console.log(`${run.machine}; ${settings.senders} senders and ${settings.readers} readers on 3 servers, ${settings.rate} messages/s`);
  const rows = [];
  for (const fault of chosen) {
    process.stdout.write(`${String(fault.number).padStart(4)}  ${fault.title} ... `);
    const row = await run.make(fault);
    rows.push(row);
    console.log(row.ok ? `ok (${row.seconds} s)` : "FAILED");
    for (const line of row.faults) console.log(`        ${line}`);
  }
  const text = table(rows, settings, run.machine);
  console.log(`\n${text}`);
  const name = values.cluster ? "cluster" : "loopback";
  mkdirSync(values.out, { recursive: true });
  writeFileSync(`${values.out}/${name}.md`, text);
  writeFileSync(`${values.out}/${name}.json`, JSON.stringify({ machine: run.machine, settings, rows }, null, 2));
  const passed = rows.filter(({ ok }) => ok).length;
  console.log(`${passed} passed, ${rows.length - passed} failed`);
  status = passed === rows.length && passed > 0 ? 0 : 1;
} finally {
  await run.end();
}
process.exit(status);

async function onLoopback() {
  const broker = await LocalBroker.start();
  return {
    machine: `${cpus().length} x ${cpus()[0].model}, RabbitMQ ${await broker.version()}, Node ${process.versions.node}, ${binary()}`,
    make: (fault) => trial(fault, settings, { broker }, (flags) => Loopback.start(broker, flags)),
    end: () => broker.stop(),
  };
}

/** Installs the chart in the same way as the end-to-end tests. */
async function inCluster() {
  const [{ Cluster }, { begin, end }, { kubectl }] = await Promise.all(["./lib/cluster.mjs", "../lib/cluster/release.mjs", "../lib/cluster/kubectl.mjs"].map((module) => import(module)));
  await begin();
  const { serverVersion } = JSON.parse(await kubectl("version", "-o", "json"));
  return {
    machine: `Kubernetes ${serverVersion.gitVersion} on ${cpus().length} x ${cpus()[0].model}`,
    make: (fault) => trial(fault, settings, {}, () => Cluster.start(`fault-${fault.number}`)),
    end,
  };
}

function parse() {
  try {
    const parsed = parseArgs({ options });
    if (parsed.values.help) {
      console.log(USAGE);
      process.exit();
    }
    return parsed;
  } catch (error) {
    return fail(error.message);
  }
}

function number(name) {
  const value = Number(values[name]);
  return Number.isFinite(value) && value > 0 ? value : fail(`--${name} is a number above 0, not '${values[name]}'`);
}

function fail(why) {
  console.error(`faults: ${why}\n\n${USAGE}`);
  process.exit(2);
}
