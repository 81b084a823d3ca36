// Waiting for a condition, under a limit.

import { setTimeout as sleep } from "node:timers/promises";

/** Resolves to the first truthy result of `condition`, asked again and again; fails with `what` after `seconds`. */
export async function until(what, condition, seconds = 15) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await sleep(20);
  }
}
