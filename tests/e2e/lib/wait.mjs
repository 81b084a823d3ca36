// Waiting for conditions, never for time.

import { setTimeout as sleep } from "node:timers/promises";

/**
 * Polls `condition` until it returns something truthy, and returns that.
 * Fails after `seconds`, naming `what`, with the last error if the condition threw.
 */
export async function until(what, condition, seconds = 120) {
  const end = Date.now() + seconds * 1000;
  for (let last; ; await sleep(200)) {
    try {
      const value = await condition();
      if (value) return value;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`, { cause: last });
  }
}
