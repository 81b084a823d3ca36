// Who is typing: a signal that others send now and then while they type, believed for a few seconds.

const BELIEVED = 3_000;
const REPEAT = 2_000;

/** The others. `changed(names)` follows every change. */
export class Typing {
  #timers = new Map();
  #names = new Map();
  #changed;

  constructor(changed) {
    this.#changed = changed;
  }

  heard({ user, sender }) {
    clearTimeout(this.#timers.get(sender));
    this.#timers.set(sender, setTimeout(() => this.stopped(sender), BELIEVED));
    this.#names.set(sender, user);
    this.#changed([...this.#names.values()]);
  }

  /** They have sent what they typed, or fell silent. */
  stopped(sender) {
    clearTimeout(this.#timers.get(sender));
    this.#timers.delete(sender);
    if (this.#names.delete(sender)) this.#changed([...this.#names.values()]);
  }

  nobody() {
    for (const sender of [...this.#names.keys()]) this.stopped(sender);
  }
}

/** Ourselves: calls `signal` as often as the others need it. */
export function typingSignal(signal) {
  let last = -Infinity;
  return {
    typed() {
      if (performance.now() - last < REPEAT) return;
      last = performance.now();
      signal();
    },
    sent() {
      last = -Infinity;
    },
  };
}
