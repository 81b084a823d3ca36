// Members who keep sending: each at its times, whether or not the last message was acknowledged.

import { until } from "./wait.mjs";

export class Traffic {
  #timers = [];
  #pending = new Set();
  #failed;

  /** `rate`: messages a second of all members together. */
  constructor(members, rate, text = (member, n) => `${member.name} ${n}`) {
    const period = (1000 * members.length) / rate;
    for (const [place, member] of members.entries()) {
      let n = 0;
      const speak = () => {
        const sending = member.send(text(member, (n += 1)));
        this.#pending.add(sending);
        sending.catch((error) => (this.#failed = error)).finally(() => this.#pending.delete(sending));
      };
      // Spread evenly, so that the load has no beat.
      this.#timers.push(setTimeout(() => (speak(), this.#timers.push(setInterval(speak, period))), (place * period) / members.length));
    }
  }

  /** Falls silent, and waits until everything sent was answered. */
  async stop(seconds = 90) {
    this.#timers.forEach(clearInterval);
    await until(`all that was sent was answered (${this.#pending.size} pending)`, () => this.#pending.size === 0, seconds);
    if (this.#failed) throw this.#failed;
  }
}
