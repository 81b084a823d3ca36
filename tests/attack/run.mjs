// Runs each attack beside honest members, and prints a table of what the attacker got and what the honest members noticed.

import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";

import { LocalBroker } from "../lib/broker.mjs";
import { binary } from "../lib/server.mjs";
import { clusterAttacks, loopbackAttacks } from "./attacks.mjs";
import { longRoom } from "./lib/long-log.mjs";
import { clusterTable, table } from "./lib/report.mjs";
import { clusterTrial, trial } from "./lib/trial.mjs";

const USAGE = `usage: make attack [ARGS="..."]
  --quick             the attacks that CI runs, for a shorter time, on a shorter log
  --only 41,43b,all   only the attacks with these numbers
  --all-at-once       only all attacks at the same time (as --only all)
  --cluster           the attacks on the operator and with stolen credentials, in the cluster of KUBECONFIG (installs the chart, removes it last)
  --list              print the attacks and end
  --alone SECONDS     how long the honest members are measured alone (10; 4 with --quick)
  --beside SECONDS    how long an attack lasts (20; 6 with --quick)
  --records N         records in the long log of 42 and all (300000; 60000 with --quick)
  --server-flag FLAG  a flag for the server, such as --server-flag=--address-byte-burst=1073741824; may be repeated.
                      An attack whose limit is raised so must fail
  --out DIR           folder for the table (target/attack)

PAPO_SERVER is the path of the server's binary. Without --cluster the run starts a RabbitMQ of its own, and everything stays on
loopback.`;

const options = {
  quick: { type: "boolean", default: false },
  only: { type: "string" },
  "all-at-once": { type: "boolean", default: false },
  cluster: { type: "boolean", default: false },
  list: { type: "boolean", default: false },
  alone: { type: "string" },
  beside: { type: "string" },
  records: { type: "string" },
  "server-flag": { type: "string", multiple: true, default: [] },
  out: { type: "string", default: "target/attack" },
  help: { type: "boolean", short: "h", default: false },
};

const { values } = parse();
const attacks = await (values.cluster ? clusterAttacks() : loopbackAttacks());
if (values.list) {
  for (const { number, title, quick } of attacks) console.log(`${number.padStart(4)}  ${title}${quick ? "  (quick)" : ""}`);
  process.exit();
}
const only = values["all-at-once"] ? ["all"] : values.only?.split(",");
const unknown = only?.filter((number) => !attacks.some((attack) => attack.number === number)) ?? [];
if (unknown.length) fail(`there is no attack ${unknown}; --list prints them`);
const chosen = attacks.filter((attack) => (only ? only.includes(attack.number) : !values.quick || attack.quick));
const settings = {
  quick: values.quick,
  alone: number("alone", values.quick ? 4 : 10),
  beside: number("beside", values.quick ? 6 : 20),
  records: number("records", values.quick ? 60_000 : 300_000),
  flags: values["server-flag"],
};

const run = await (values.cluster ? inCluster() : onLoopback());
let status = 1;
try {
  console.log(run.machine);
  const rows = [];
  for (const attack of chosen) {
    process.stdout.write(`${attack.number.padStart(4)}  ${attack.title} ... `);
    const row = await run.make(attack);
    rows.push(row);
    console.log(row.ok ? `ok (${row.seconds} s)` : "FAILED");
    for (const line of row.faults) console.log(`        ${line}`);
  }
  const text = run.table(rows);
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
  const machine = `${cpus().length} x ${cpus()[0].model}, RabbitMQ ${await broker.version()}, Node ${process.versions.node}, ${binary()}`;
  let long;
  /** The room with the long log, which attacks share. */
  const longLog = () => (long ??= longRoom(broker, settings.records));
  return {
    machine,
    make: async (attack) => trial(attack, settings, broker, attack.needsLongLog ? await longLog() : {}),
    table: (rows) => table(rows, settings, machine),
    end: () => broker.stop(),
  };
}

/** Installs the chart in the same way as the end-to-end tests. */
async function inCluster() {
  const [{ begin, end }, { kubectl }] = await Promise.all(["../lib/cluster/release.mjs", "../lib/cluster/kubectl.mjs"].map((module) => import(module)));
  await begin();
  const { serverVersion } = JSON.parse(await kubectl("version", "-o", "json"));
  const machine = `Kubernetes ${serverVersion.gitVersion} on ${cpus().length} x ${cpus()[0].model}`;
  return { machine, make: clusterTrial, table: (rows) => clusterTable(rows, machine), end };
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

function number(name, otherwise) {
  const value = Number(values[name] ?? otherwise);
  return Number.isFinite(value) && value > 0 ? value : fail(`--${name} is a number above 0, not '${values[name]}'`);
}

function fail(why) {
  console.error(`attack: ${why}\n\n${USAGE}`);
  process.exit(2);
}
