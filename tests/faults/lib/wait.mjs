// Waiting for conditions, under a limit.

import { setTimeout as sleep } from "node:timers/promises";

/** Resolves to the first truthy result of `condition`, asked again and again; fails with `what` after `seconds`. */
export async function until(what, condition, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  for (let last; ; await sleep(50)) {
    try {
      const result = await condition();
      if (result) return result;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}${last ? ` (${last.message})` : ""}`);
  }
}

/** How long a fault or its traffic lasts: part of the experiment, not a wait for something to happen. */
export const lasting = (seconds) => sleep(seconds * 1000);
