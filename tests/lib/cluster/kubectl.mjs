// The cluster of KUBECONFIG, through kubectl and helm.

import { execFile, spawn } from "node:child_process";
import { promisify } from "node:util";

import { ROOMS } from "./settings.mjs";

const exec = promisify(execFile);
const MAX_OUTPUT = 64 * 1024 * 1024;

async function run(program, args, input) {
  const running = exec(program, args, { maxBuffer: MAX_OUTPUT });
  running.child.stdin.end(input ?? "");
  try {
    return (await running).stdout;
  } catch (error) {
    throw new Error(`${program} ${args.join(" ")}: ${error.stderr?.trim() || error.message}`);
  }
}

/** Runs kubectl; returns its output. */
export const kubectl = (...args) => run("kubectl", args);
/** Runs helm; returns its output. */
export const helm = (...args) => run("helm", args);
/** Runs kubectl in the rooms' namespace. */
export const inRooms = (...args) => kubectl("-n", ROOMS, ...args);

/** Applies objects in a namespace. */
export const applyTo = (namespace, ...objects) =>
  run("kubectl", ["-n", namespace, "apply", "-f", "-"], objects.map((object) => JSON.stringify(object)).join("\n---\n"));
/** Applies objects in the rooms' namespace. */
export const apply = (...objects) => applyTo(ROOMS, ...objects);

/** Applies a manifest, given as text, in the rooms' namespace. */
export const applyText = (text) => run("kubectl", ["-n", ROOMS, "apply", "-f", "-"], text);

/** An object, by default of the rooms' namespace; null if it does not exist. */
export async function get(kind, name, namespace = ROOMS) {
  const text = await kubectl("-n", namespace, "get", kind, name, "-o", "json", "--ignore-not-found");
  return text ? JSON.parse(text) : null;
}

/** Objects with these labels, by default in the rooms' namespace. */
export async function list(kinds, selector = "", namespace = ROOMS) {
  const text = await kubectl("-n", namespace, "get", kinds, "-l", selector, "-o", "json");
  return JSON.parse(text).items;
}

/** Pods with these labels that are not being deleted. */
export async function livePods(selector, namespace = ROOMS) {
  return (await list("pods", selector, namespace)).filter(({ metadata }) => !metadata.deletionTimestamp);
}

/** Programs that run for as long as this one. */
const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill()));

/** Starts kubectl for as long as this program runs, at most. */
export function start(args, options) {
  const child = spawn("kubectl", args, { stdio: ["ignore", "pipe", "inherit"], ...options });
  running.add(child);
  child.once("exit", () => running.delete(child));
  return child;
}

/** Forwards a local port to `target` (such as service/x); returns the port and a function that stops the port-forward. */
export async function forward(namespace, target, port) {
  const child = start(["-n", namespace, "port-forward", target, `:${port}`]);
  const local = await new Promise((resolve, reject) => {
    let text = "";
    child.stdout.on("data", (data) => {
      text += data;
      const found = text.match(/127\.0\.0\.1:(\d+)/);
      if (found) resolve(Number(found[1]));
    });
    child.once("exit", (code) => reject(new Error(`port-forward to ${target} ended with ${code}`)));
  });
  return { port: local, stop: () => child.kill() };
}
