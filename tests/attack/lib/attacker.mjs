// A process of attackers (attackers.mjs starts it): calls a function of a module until it is told to stop, and sends what the function counted.
//
//   node attacker.mjs MODULE FUNCTION OPTIONS        OPTIONS: JSON

import { setMaxListeners } from "node:events";
import { setPriority } from "node:os";

/** The attackers have machines of their own. Here they share one with the server and the honest members, and leave them the processor. */
const PRIORITY = 19;
/** No attack takes longer, whatever becomes of the process that started it. */
const MOST_SECONDS = 180;

const [module, name, options] = process.argv.slice(2);
setPriority(PRIORITY);
const stop = new AbortController();
setMaxListeners(0, stop.signal);
process.once("message", () => stop.abort());
process.once("disconnect", () => process.exit(1));
const limit = setTimeout(() => stop.abort(), MOST_SECONDS * 1000);

const counts = {};
const count = (what, number = 1) => (counts[what] = (counts[what] ?? 0) + number);
/** Keeps the largest value. */
const largest = (what, value) => (counts[what] = Math.max(counts[what] ?? 0, value));

const { [name]: attack } = await import(module);
const began = performance.now();
await attack(JSON.parse(options), { count, largest, signal: stop.signal });
clearTimeout(limit);
counts.seconds = (performance.now() - began) / 1000;
process.send(counts, () => process.exit());
