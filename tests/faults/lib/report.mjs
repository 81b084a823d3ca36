// Writes the results of a run as a Markdown table.

import { markdown } from "../../lib/table.mjs";

const seconds = (value) => (value === undefined ? "-" : value === Infinity ? "never" : value.toFixed(1));

export function table(rows, { senders, readers, rate, around }, machine) {
  const columns = ["#", "fault", "sent", "acknowledged", "lost", "repeated", "reordered", "unannounced", "duplicates hidden", "99 % (s)", "100 % (s)", "longest silence (s)", ""];
  const lines = rows.map((row) => [
    row.number,
    row.title,
    row.sent ?? "-",
    row.acknowledged ?? "-",
    row.lost ?? "-",
    row.repeated ?? "-",
    row.reordered ?? "-",
    row.holes ?? "-",
    row.duplicates ?? "-",
    seconds(row.caughtUp99),
    seconds(row.caughtUp100),
    seconds(row.silence),
    `${row.ok ? "" : "**failed** "}${row.note ?? ""}`,
  ]);
  return [
    `${senders} senders and ${readers} readers on three servers, ${rate} messages/s, ${around} s before and after each fault; ${machine}.`,
    "The columns 99 % and 100 % are the seconds from the end of the fault until this share of the clients had caught up.",
    "",
    ...markdown(columns, lines),
    "",
  ].join("\n");
}
