// Programs that make trials (faults, attacks) one after the other, print a table, and write it to a folder.

import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";

import { binary } from "./server.mjs";

/** The arguments of a program. `fail` ends it with the reason and the usage. */
export function commandLine(program, usage, options) {
  const fail = (why) => {
    console.error(`${program}: ${why}\n\n${usage}`);
    process.exit(2);
  };
  const values = parse(options, usage, fail);
  /** An argument that is a number; `otherwise` if it is not given. */
  const number = (name, otherwise) => {
    const value = Number(values[name] ?? otherwise);
    return Number.isFinite(value) && value > 0 ? value : fail(`--${name} is a number above 0, not '${values[name]}'`);
  };
  return { values, number, fail };
}

function parse(options, usage, fail) {
  try {
    const { values } = parseArgs({ options });
    if (values.help) {
      console.log(usage);
      process.exit();
    }
    return values;
  } catch (error) {
    return fail(error.message);
  }
}

/** The trials with the numbers `only`, or else those that --quick asks for. With --list it prints them, and ends the program. */
export function choose(kind, trials, only, { values, fail }) {
  if (values.list) {
    for (const { number, title, quick } of trials) console.log(`${String(number).padStart(4)}  ${title}${quick ? "  (quick)" : ""}`);
    process.exit();
  }
  const unknown = only?.filter((number) => !trials.some((trial) => String(trial.number) === number)) ?? [];
  if (unknown.length) fail(`there is no ${kind} ${unknown}; --list prints them`);
  return trials.filter((trial) => (only ? only.includes(String(trial.number)) : !values.quick || trial.quick));
}

/** A RabbitMQ on loopback, and the machine in words. */
export async function onLoopback(broker) {
  const machine = `${cpus().length} x ${cpus()[0].model}, RabbitMQ ${await broker.version()}, Node ${process.versions.node}, ${binary()}`;
  return { broker, machine, end: () => broker.stop() };
}

/** Installs the chart in the same way as the end-to-end tests; the cluster in words. */
export async function inCluster() {
  const [{ begin, end }, { kubectl }] = await Promise.all([import("./cluster/release.mjs"), import("./cluster/kubectl.mjs")]);
  await begin();
  const { serverVersion } = JSON.parse(await kubectl("version", "-o", "json"));
  return { machine: `Kubernetes ${serverVersion.gitVersion} on ${cpus().length} x ${cpus()[0].model}`, end };
}

/** Makes the trials with `make`, prints and writes the table, calls `end`, and ends the program: with status 0 only if all passed. */
export async function runTrials(trials, { make, table, machine, heading = machine, end }, settings, { values }) {
  let status = 1;
  try {
    console.log(heading);
    const rows = [];
    for (const trial of trials) {
      process.stdout.write(`${String(trial.number).padStart(4)}  ${trial.title} ... `);
      const row = await make(trial);
      rows.push(row);
      console.log(row.ok ? `ok (${row.seconds} s)` : "FAILED");
      for (const line of row.faults) console.log(`        ${line}`);
    }
    const text = table(rows);
    console.log(`\n${text}`);
    const name = values.cluster ? "cluster" : "loopback";
    mkdirSync(values.out, { recursive: true });
    writeFileSync(`${values.out}/${name}.md`, text);
    writeFileSync(`${values.out}/${name}.json`, JSON.stringify({ machine, settings, rows }, null, 2));
    // Once more, in the form in which .ci/run finds the failures of a part: the table is long.
    for (const { ok, number, title, faults } of rows) if (!ok) console.log(`FAILED: ${number} ${title}\n${faults.map((fault) => `        ${fault}`).join("\n")}`);
    const passed = rows.filter(({ ok }) => ok).length;
    console.log(`${passed} passed, ${rows.length - passed} failed`);
    status = passed === rows.length && passed > 0 ? 0 : 1;
  } finally {
    await end();
  }
  process.exit(status);
}
