// Waits for conditions under a time limit.

import { setTimeout as sleep } from "node:timers/promises";

/** Milliseconds between two tries. They grow, because a try may start a process. */
const PAUSE = { first: 20, last: 200, growth: 1.5 };

/**
 * Resolves to the first truthy result of `condition`. It calls `condition` again after a falsy result and after an exception. After
 * `seconds` it throws an error with `what` and the last exception. Only a failing test reaches the limit, so the limit may be long.
 */
export async function until(what, condition, seconds = 60) {
  const end = performance.now() + seconds * 1000;
  for (let pause = PAUSE.first; ; pause = Math.min(pause * PAUSE.growth, PAUSE.last)) {
    let last;
    try {
      const result = await condition();
      if (result) return result;
    } catch (error) {
      last = error;
    }
    if (performance.now() > end) throw new Error(`not within ${seconds} s: ${what}${last ? ` (${last.message})` : ""}`, { cause: last });
    await sleep(pause);
  }
}

/** Sleeps for the duration of a fault or of its traffic. This is part of the experiment; to wait for a condition, use `until`. */
export const lasting = (seconds) => sleep(seconds * 1000);
