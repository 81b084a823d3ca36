// Creates many rooms in the cluster that KUBECONFIG names, and prints how long they took, what they cost and what they left.

import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";

import { Api } from "../lib/cluster/api.mjs";
import { commandLine } from "../lib/trials.mjs";
import { checks } from "./lib/checks.mjs";
import { measure } from "./lib/measure.mjs";
import { releaseForTest } from "./lib/release.mjs";
import { table } from "./lib/report.mjs";
import { LABEL, cleanUp } from "./lib/rooms.mjs";

const USAGE = `usage: make scale [ARGS="..."]
  --rooms N           rooms to create (100)
  --servers           a server for each room, for clusters with room for N pods; without it the rooms have replicas: 0
  --rest SECONDS      how long the rooms are left alone, to measure what they cost then (60)
  --limit SECONDS     time for all rooms to become Ready, and for their deletion (120, and 2 for each room)
  --keep              leave the rooms, and do not measure their deletion. The next run deletes them first
  --out DIR           folder for the table (target/scale)

The run needs kubectl, helm and the rights of an administrator. It measures the release PAPO_E2E_RELEASE (papo) in the namespace
PAPO_E2E_SYSTEM_NAMESPACE (papo-system), with its quick-start broker, as it is: with its values and its other rooms. If there is none, the
run installs the chart with the arguments PAPO_E2E_HELM_ARGS, and uninstalls it last. The operator is restarted once.
The run creates namespaces papo-scale-* with the label ${LABEL}, and deletes them also when it is interrupted.`;

const options = {
  rooms: { type: "string", default: "100" },
  servers: { type: "boolean", default: false },
  rest: { type: "string", default: "60" },
  limit: { type: "string" },
  keep: { type: "boolean", default: false },
  out: { type: "string", default: "target/scale" },
  help: { type: "boolean", short: "h", default: false },
};

const { values, number, fail } = commandLine("scale", USAGE, options);
const rooms = number("rooms");
if (!Number.isInteger(rooms)) fail(`--rooms is a whole number, not '${values.rooms}'`);
const settings = { run: randomBytes(3).toString("hex"), rooms, servers: values.servers, rest: number("rest"), limit: number("limit", 120 + 2 * rooms), keep: values.keep };

let release;
let ending;
/** Removes what the run has created, once. */
const end = () =>
  (ending ??= (async () => {
    if (!settings.keep) await cleanUp(settings.run);
    await release?.end(settings.keep);
  })());
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    console.error(`\n${signal}: deleting the rooms of this run; a second one ends the program at once`);
    await end().catch((error) => console.error(error.message));
    process.exit(130);
  });
}

let status = 1;
try {
  release = await releaseForTest();
  await cleanUp();
  const figures = await measure(await Api.open(), settings, release.cluster);
  const rows = checks(figures);
  const text = table(figures);
  console.log(`\n${text}`);
  mkdirSync(values.out, { recursive: true });
  writeFileSync(`${values.out}/${rooms}-rooms.md`, text);
  writeFileSync(`${values.out}/${rooms}-rooms.json`, JSON.stringify({ settings, figures, checks: rows }, null, 2));
  for (const { title, ok, why } of rows) console.log(`${ok ? "ok    " : "FAILED"} ${title}${ok ? "" : `: ${why}`}`);
  const passed = rows.filter(({ ok }) => ok).length;
  await end();
  if (settings.keep) console.log(`the rooms stay; kubectl delete chatrooms -A -l ${LABEL} && kubectl delete namespaces -l ${LABEL} deletes them`);
  console.log(`${passed} passed, ${rows.length - passed} failed`);
  status = passed === rows.length ? 0 : 1;
} catch (error) {
  console.error(error);
  await end().catch((error) => console.error(error.message));
  console.log("0 passed, 1 failed");
}
process.exit(status);
