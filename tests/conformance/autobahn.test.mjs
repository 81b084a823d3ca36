// Autobahn|Testsuite on the WebSocket frames of crates/engineio, if autobahn/install has put it into the cache.
//
// PAPO_AUTOBAHN=all runs all cases but those of 12 and 13, which need compression (make conformance). By default most of 9 are left out,
// which send large messages for minutes. PAPO_AUTOBAHN=1.*,7.7.* runs some.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { startEcho } from "./echo.mjs";

const run = promisify(execFile);
const INSTALL = fileURLToPath(new URL("autobahn/install", import.meta.url));
const AGENT = "papo";
const SHORT = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.1.*", "9.2.*", "10.*"];
const ALL = SHORT.filter((cases) => !cases.startsWith("9")).concat("9.*");
/** How many these are in the version of requirements.txt. */
const SHORT_COUNT = 259;
const ALL_COUNT = 301;
/** The longest message of family 9, in bytes. */
const LONGEST = 16 << 20;
const PASSED = ["OK", "NON-STRICT", "INFORMATIONAL"];

/** The cases to run, and how many there must be. */
function chosen(cases) {
  if (cases === "all") return [ALL, ALL_COUNT];
  return cases ? [cases.split(",")] : [SHORT, SHORT_COUNT];
}

const program = await run(INSTALL, ["--cached"]).then(
  ({ stdout }) => stdout.trim(),
  () => null,
);

test("Autobahn, echo example", { skip: program ? false : "Autobahn is not in the cache: tests/conformance/autobahn/install" }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "papo-autobahn-"));
  const { url, stop } = await startEcho("--websocket", "--max-payload", String(LONGEST));
  t.after(() => Promise.all([stop(), rm(folder, { recursive: true })]));
  const [cases, count] = chosen(process.env.PAPO_AUTOBAHN);
  const spec = {
    outdir: join(folder, "reports"),
    servers: [{ agent: AGENT, url: url.replace("http", "ws") }],
    cases,
    "exclude-cases": [],
    "exclude-agent-cases": {},
  };
  const file = join(folder, "spec.json");
  await writeFile(file, JSON.stringify(spec));
  await run(program, ["--mode", "fuzzingclient", "--spec", file], { cwd: folder, maxBuffer: Infinity });

  const results = Object.entries(JSON.parse(await readFile(join(spec.outdir, "index.json"), "utf8"))[AGENT]);
  if (count) assert.equal(results.length, count);
  const names = {};
  for (const [name, { behavior, behaviorClose, reportfile }] of results) {
    (names[behavior] ??= []).push(name);
    await t.test(name, async () => {
      if (PASSED.includes(behavior) && PASSED.includes(behaviorClose)) return;
      const { result, resultClose, expectation } = JSON.parse(await readFile(join(spec.outdir, reportfile), "utf8"));
      assert.fail(`${behavior}, ${behaviorClose}: ${result}; ${resultClose}; expected: ${expectation}`);
    });
  }
  for (const [behavior, of] of Object.entries(names)) t.diagnostic(`${behavior}: ${behavior === "OK" ? of.length : of.join(" ")}`);
});
