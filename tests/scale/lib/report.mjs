// Writes the figures of a run as Markdown.

import { percentile } from "../../lib/checker.mjs";
import { markdown } from "../../lib/table.mjs";
import { counted } from "./leftovers.mjs";

/** What Papo aims at with 1000 rooms while nothing else runs. Other machines and other numbers of rooms have no goal. */
const GOAL = { ready: "120, better 60", deletion: "120", processor: "together 5 %, better 2 %", memory: "64" };

export const mebibytes = (bytes) => (bytes / 2 ** 20).toFixed(1);
const seconds = (value) => (value === Infinity ? "never" : value.toFixed(1));
const percent = (share) => (Number.isNaN(share) ? "-" : `${(share * 100).toFixed(1)} %`);
const spread = (values, all) => `${seconds(percentile(values, 0.5))} / ${seconds(percentile(values, 0.99))} / ${seconds(all)}`;

export function table(figures) {
  const { rooms, servers, others, cluster, broker, operator } = figures;
  const beside = others > 0 ? `, beside ${others} other room${others > 1 ? "s" : ""}` : "";
  const heading = `${rooms} rooms with ${servers ? "one server each" : "\`replicas: 0\`"}${beside}; RabbitMQ ${broker}; operator with concurrency ${operator.concurrency} and a resync period of ${operator.resync} s; ${cluster}.`;
  return [heading, "", ...times(figures), "", ...requests(figures), "", ...resources(figures), ""].join("\n");
}

function times({ rooms, creation, change, restart, deletion, objects }) {
  const lines = [
    ["seconds until a room is Ready: p50 / p99, and all", spread(creation.seconds, creation.all), GOAL.ready],
    ["rooms that were Ready and then were not, for a while", creation.lapses, "0"],
    ["seconds until a changed room is Ready", seconds(change.seconds), ""],
    ["seconds until a restarted operator has reconciled all", seconds(restart.seconds), ""],
    ["objects on the broker", counted(objects), ""],
  ];
  if (deletion) {
    lines.push(["seconds until a room is deleted: p50 / p99, and all", spread(deletion.seconds, deletion.all), GOAL.deletion]);
    lines.push(["left on the broker", counted(deletion.onBroker), "none"]);
    lines.push(["left in the cluster", counted(deletion.inCluster), "none"]);
  }
  return markdown(["", `${rooms} rooms`, "goal"], lines);
}

function requests({ rooms, operator, creation, rest, change, restart, deletion }) {
  const names = ["reads", "watches", "writes", "brokerReads", "brokerWrites", "reconciles"];
  const line = (title, counters, digits = 0) => [title, ...names.map((name) => (counters ? counters[name].toFixed(digits) : "-"))];
  const scaled = (counters, factor) => counters && Object.fromEntries(names.map((name) => [name, counters[name] * factor]));
  const perRoom = (title, counters) => line(title, scaled(counters, 1 / rooms), 2);
  return markdown(
    ["requests of the operator", "API server: reads", "watches", "writes", "broker: reads", "writes", "reconciles"],
    [
      line("creation", creation.counted),
      perRoom("- for each room", creation.counted),
      line("at rest, in a resync period", scaled(rest.counted, operator.resync / rest.seconds), 1),
      perRoom("- for each room", scaled(rest.counted, operator.resync / rest.seconds)),
      line("one changed room, beyond those at rest", change.counted, 1),
      line("a restarted operator", restart.counted),
      perRoom("- for each room", restart.counted),
      ...(deletion ? [line("deletion", deletion.counted), perRoom("- for each room", deletion.counted)] : []),
    ],
  );
}

function resources({ operator, before, creation, rest, restart, deletion }) {
  const line = (part, title, goal) => [
    title,
    mebibytes(before[part].largest),
    mebibytes(creation.peak[part]),
    mebibytes(rest.memory[part].largest),
    mebibytes(restart.peak[part]),
    deletion ? mebibytes(deletion.peak[part]) : "-",
    percent(rest.processor[part]),
    goal,
  ];
  const limit = operator.memoryLimit ? `, limit ${mebibytes(operator.memoryLimit)}` : "";
  return markdown(
    ["resident memory (MiB), of the largest pod", "before", "creation, peak", "at rest", "restart, peak", "deletion, peak", "of a core, at rest", "goal"],
    [line("operator", "operator", `${GOAL.memory} MiB${limit}; ${GOAL.processor}`), line("broker", "broker", "")],
  );
}
