// The default limits, from the server itself: crates/protocol/src/limits.rs is the one place for them.

import { execFileSync } from "node:child_process";

import { binary } from "../../lib/server.mjs";

let help;

/** The default of a flag, as a number. */
export function defaultOf(flag) {
  help ??= execFileSync(binary(), ["--help"], { encoding: "utf8", env: {} });
  const [, text] = help.match(new RegExp(`--${flag} <.*?\\[default: (\\d+)\\]`, "s")) ?? [];
  if (text === undefined) throw new Error(`the server has no flag --${flag} with a default`);
  return Number(text);
}
