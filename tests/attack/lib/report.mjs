// Writes the results of a run as a Markdown table.

import { markdown } from "../../lib/table.mjs";

const milliseconds = (value) => (value === undefined ? "-" : value === Infinity ? "never" : value.toFixed(0));
const pair = ({ alone, beside }, what) => (alone && beside ? `${milliseconds(alone[what])} → ${milliseconds(beside[what])}` : "-");
const percent = (share) => `${Math.round(share * 100)} %`;
const mebibytes = (bytes) => Math.round(bytes / 2 ** 20);

export function table(rows, { alone, beside }, machine) {
  const columns = ["#", "attack", "bound", "the attacker", "delivery, p99 (ms)", "to enter (ms)", "scroll-back (ms)", "memory (MiB)", "processor", ""];
  const lines = rows.map((row) => [
    row.number,
    row.title,
    row.bound,
    row.measured ?? "-",
    ...["delivery", "enter", "scrollBack"].map((what) => pair(row, what)),
    row.server ? `${mebibytes(row.server.resident)} → ${mebibytes(row.server.peak)}` : "-",
    row.server ? `${percent(row.server.processor.alone)} → ${percent(row.server.processor.beside)}` : "-",
    row.ok ? "" : "**failed**",
  ]);
  return [
    `One server with the default limits; honest members measured for ${alone} s alone, then for ${beside} s beside each attack; ${machine}.`,
    "An arrow leads from the value alone to the value beside the attack. Delivery is the 99th percentile; the times to enter and to scroll back are the longest;",
    "memory is what the server has before and its peak; processor is the server's share of one core.",
    "",
    ...markdown(columns, lines),
    "",
  ].join("\n");
}

export const clusterTable = (rows, machine) =>
  [`In a cluster: ${machine}.`, "", ...markdown(["#", "attack", "bound", "measured", ""], rows.map((row) => [row.number, row.title, row.bound, row.measured ?? "-", row.ok ? "" : "**failed**"])), ""].join("\n");
