// Rooms with an access file.

import { randomBytes } from "node:crypto";
import { rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { PapoServer } from "./server.mjs";

/** A file with these rules for the test `t`: its path, and a function that replaces the rules. */
export async function accessFile(t, rules) {
  const path = join(tmpdir(), `papo-access-${randomBytes(6).toString("hex")}.json`);
  // Renamed, so that a server never reads half of it.
  const change = async (rules) => {
    await writeFile(`${path}.new`, JSON.stringify(rules));
    await rename(`${path}.new`, path);
  };
  await change(rules);
  t.after(() => rm(path));
  return { path, change };
}

/** A server of a room whose page signs people in at `issuer`; `rules` are the other fields of the access file. It has the `flags` to start the server again. */
export async function startRoom(t, issuer, rules = {}, ...flags) {
  const file = await accessFile(t, issuer.access(rules));
  const all = ["--access", file.path, ...flags];
  const server = await PapoServer.start(t, ...all);
  const base = flags.includes("--base-path") ? `${flags[flags.indexOf("--base-path") + 1]}/` : "/";
  issuer.register(server.url + base);
  return { server, flags: all, url: server.url + base, change: (rules) => file.change(issuer.access(rules)) };
}
