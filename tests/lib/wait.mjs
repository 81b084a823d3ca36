// Waiting for conditions, under a limit.

import { setTimeout as sleep } from "node:timers/promises";

/** Milliseconds between two tries: few at first, then more, for a try may cost a process. */
const PAUSE = { first: 20, last: 200, growth: 1.5 };

/**
 * Resolves to the first truthy result of `condition`, which is tried again also when it throws.
 * Fails after `seconds`, naming `what`, with the last error. The limit is for a test that fails: it may be generous.
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

/** How long a fault or its traffic lasts: part of the experiment, not a wait for something to happen. */
export const lasting = (seconds) => sleep(seconds * 1000);
