// The example of crates/engineio that sends back messages, as a process.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";

import { root } from "../lib/server.mjs";

/** PAPO_ECHO, or cargo's release or debug build. */
function binary() {
  const target = process.env.CARGO_TARGET_DIR ?? root("target");
  const paths = [process.env.PAPO_ECHO, `${target}/release/examples/echo`, `${target}/debug/examples/echo`];
  const found = paths.find((path) => path && existsSync(path));
  if (!found) throw new Error("no echo: build it (cargo build -p papo-engineio --example echo) or name it in PAPO_ECHO");
  return found;
}

/** Starts it on a free port, and returns its URL and what ends it. */
export async function startEcho(...flags) {
  const child = spawn(binary(), ["--port", "0", ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "exit");
  const line = await Promise.race([once(createInterface(child.stdout), "line"), ended]);
  const [, host] = /ws:\/\/([\d.:]+)\//.exec(line[0]) ?? [];
  if (!host) throw new Error(`echo has ended: ${line}`);
  return { url: `http://${host}`, stop: () => (child.kill("SIGKILL"), ended) };
}
