// Runs the end-to-end tests, one file after the other, against the cluster that KUBECONFIG names.
//
//   node run.mjs [FILE...]
//
// Installs the chart first (or takes over the release that is there) and removes what it made last. The last line says how many
// tests passed and failed. What it takes from the environment is in ../lib/cluster/settings.mjs.

import { readdirSync } from "node:fs";
import { finished } from "node:stream/promises";
import { run } from "node:test";
import { spec } from "node:test/reporters";

import { begin, end } from "../lib/cluster/release.mjs";
import { KEEP } from "../lib/cluster/settings.mjs";

const here = new URL(".", import.meta.url).pathname;
const named = process.argv.slice(2);
const files = (named.length > 0 ? named : readdirSync(here).filter((name) => name.endsWith(".test.mjs")).sort()).map((name) => here + name);

const counts = { passed: 0, failed: 0, skipped: 0 };
/** A test is what has a body of its own: neither a suite nor the file around it. */
const isTest = (data) => data.details.type !== "suite" && !files.includes(data.name);

await begin();
const stream = run({ files, concurrency: 1, timeout: 900_000 });
stream.on("test:pass", (data) => isTest(data) && (data.skip === undefined ? counts.passed++ : counts.skipped++));
// A suite fails with its tests, which count; but what happens around them counts too, and a file that cannot be loaded.
stream.on("test:fail", ({ details }) => (details.type !== "suite" || details.error?.failureType === "hookFailed") && counts.failed++);
const report = stream.compose(spec);
report.pipe(process.stdout, { end: false });
await finished(report);
if (!KEEP) await end();
process.stdout.write(`${counts.passed} passed, ${counts.failed} failed${counts.skipped ? `, ${counts.skipped} skipped` : ""}\n`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
