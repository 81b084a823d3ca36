// Runs each attack beside honest members, and prints a table of what the attacker got and what the honest members noticed.

import { LocalBroker } from "../lib/broker.mjs";
import { choose, commandLine, inCluster, onLoopback, runTrials } from "../lib/trials.mjs";
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
  --elsewhere         attack another server on this machine: what the honest members notice then is the machine's doing, not the attack's
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
  elsewhere: { type: "boolean", default: false },
  "server-flag": { type: "string", multiple: true, default: [] },
  out: { type: "string", default: "target/attack" },
  help: { type: "boolean", short: "h", default: false },
};

const line = commandLine("attack", USAGE, options);
const { values, number } = line;
const attacks = await (values.cluster ? clusterAttacks() : loopbackAttacks());
const chosen = choose("attack", attacks, values["all-at-once"] ? ["all"] : values.only?.split(","), line);
const settings = {
  quick: values.quick,
  alone: number("alone", values.quick ? 4 : 10),
  beside: number("beside", values.quick ? 6 : 20),
  records: number("records", values.quick ? 60_000 : 300_000),
  elsewhere: values.elsewhere,
  flags: values["server-flag"],
};
await runTrials(chosen, await (values.cluster ? cluster() : loopback()), settings, line);

async function loopback() {
  const { broker, ...run } = await onLoopback(await LocalBroker.start());
  let long;
  /** The room with the long log, which attacks share. */
  const longLog = () => (long ??= longRoom(broker, settings.records));
  return {
    ...run,
    make: async (attack) => trial(attack, settings, broker, attack.needsLongLog ? await longLog() : {}),
    table: (rows) => table(rows, settings, run.machine),
  };
}

async function cluster() {
  const run = await inCluster();
  return { ...run, make: clusterTrial, table: (rows) => clusterTable(rows, run.machine) };
}
