// Constant traffic: each member sends at fixed times, whether or not its last message was acknowledged.

import { until } from "./wait.mjs";

export class Traffic {
  #timers = [];
  #pending = new Set();
  #failed;

  /** `rate`: messages per second of all members together. */
  constructor(members, rate, text = (member, n) => `${member.name} ${n}`) {
    const period = (1000 * members.length) / rate;
    for (const [place, member] of members.entries()) {
      let n = 0;
      const speak = () => {
        const sending = member.send(text(member, (n += 1)));
        this.#pending.add(sending);
        sending.catch((error) => (this.#failed = error)).finally(() => this.#pending.delete(sending));
      };
      // The members send at evenly spread times, so that the load is constant.
      this.#timers.push(setTimeout(() => (speak(), this.#timers.push(setInterval(speak, period))), (place * period) / members.length));
    }
  }

  /** Stops sending, and waits until every message was acknowledged or rejected. */
  async stop(seconds = 90) {
    this.#timers.forEach(clearInterval);
    await until(`every message was acknowledged or rejected (${this.#pending.size} pending)`, () => this.#pending.size === 0, seconds);
    if (this.#failed) throw this.#failed;
  }
}
