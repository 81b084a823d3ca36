// Runs the end-to-end tests, one file after the other, against the cluster that KUBECONFIG names.
//
//   node run.mjs [FILE...]
//
// First it installs the chart, or takes over an existing release; last it removes everything that it created. The last line says how
// many tests passed and failed. ../lib/cluster/settings.mjs has the environment variables.

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
/** Whether an event of the runner is about a test, not about a suite or a file. */
const isTest = (data) => data.details.type !== "suite" && !files.includes(data.name);

await begin();
const stream = run({ files, concurrency: 1, timeout: 900_000 });
stream.on("test:pass", (data) => isTest(data) && (data.skip === undefined ? counts.passed++ : counts.skipped++));
// A suite fails when one of its tests fails, and the test counts. A failed hook, and a file that cannot be loaded, count as failures
// of their own.
stream.on("test:fail", ({ details }) => (details.type !== "suite" || details.error?.failureType === "hookFailed") && counts.failed++);
const report = stream.compose(spec);
report.pipe(process.stdout, { end: false });
await finished(report);
if (!KEEP) await end();
process.stdout.write(`${counts.passed} passed, ${counts.failed} failed${counts.skipped ? `, ${counts.skipped} skipped` : ""}\n`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
