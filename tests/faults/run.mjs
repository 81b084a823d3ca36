// Causes each fault under traffic, compares the histories with the log, and prints a table.

import { LocalBroker, LocalCluster } from "../lib/broker.mjs";
import { choose, commandLine, inCluster, onLoopback, runTrials } from "../lib/trials.mjs";
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

PAPO_SERVER is the path of the server's binary. The run starts a RabbitMQ of its own: one node, and for the
faults 31 to 37 three nodes, which need root and iptables.`;

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

const line = commandLine("faults", USAGE, options);
const { values, number } = line;
const faults = await (values.cluster ? clusterFaults() : loopbackFaults());
const chosen = choose("fault", faults, values.only?.split(","), line);
const settings = {
  rate: number("rate"),
  senders: number("senders"),
  readers: number("readers"),
  around: values.around ? number("around") : values.quick ? 5 : 15,
};
const run = await (values.cluster ? cluster() : loopback());
const heading = `${run.machine}; ${settings.senders} senders and ${settings.readers} readers on 3 servers, ${settings.rate} messages/s`;
await runTrials(chosen, { ...run, heading, table: (rows) => table(rows, settings, run.machine) }, settings, line);

async function loopback() {
  const brokers = new Map();
  /** The broker of a fault, started when the first fault needs it: a single node or a cluster. */
  const brokerOf = async ({ nodes = 1 }) => {
    if (!brokers.has(nodes)) brokers.set(nodes, await (nodes === 1 ? LocalBroker.start() : LocalCluster.start(nodes)));
    return brokers.get(nodes);
  };
  const make = async (fault) => {
    const broker = await brokerOf(fault);
    return trial(fault, settings, { broker }, (flags) => Loopback.start(broker, flags));
  };
  const end = () => Promise.all([...brokers.values()].map((broker) => broker.stop()));
  return { ...(await onLoopback(await brokerOf(chosen[0]))), make, end };
}

async function cluster() {
  const [{ Cluster }, { brokerNodes }, run] = await Promise.all([import("./lib/cluster.mjs"), import("./cluster/nodes.mjs"), inCluster()]);
  const there = await brokerNodes();
  for (const fault of chosen.filter(({ nodes = 1 }) => nodes > there)) {
    console.log(`${String(fault.number).padStart(4)}  ${fault.title}: skipped, needs rabbitmq.replicas=${fault.nodes} (PAPO_E2E_HELM_ARGS="--set rabbitmq.replicas=${fault.nodes}")`);
    chosen.splice(chosen.indexOf(fault), 1);
  }
  return { ...run, make: (fault) => trial(fault, settings, {}, () => Cluster.start(`fault-${fault.number}`)) };
}
