// Typing signals: a member sends one every few seconds while the person types, and the page shows it for a few seconds.

const BELIEVED = 3_000;
const REPEAT = 2_000;

/** The other members that are typing. Calls `changed(names)` after every change. */
export class Typing {
  #timers = new Map();
  #names = new Map();
  #changed;

  constructor(changed) {
    this.#changed = changed;
  }

  heard(signal) {
    const { user, sender } = signal ?? {};
    if (typeof user !== "string" || typeof sender !== "string") return;
    clearTimeout(this.#timers.get(sender));
    this.#timers.set(sender, setTimeout(() => this.stopped(sender), BELIEVED));
    this.#names.set(sender, user);
    this.#changed([...this.#names.values()]);
  }

  /** Forgets a member that has sent a message or stopped typing. */
  stopped(sender) {
    clearTimeout(this.#timers.get(sender));
    this.#timers.delete(sender);
    if (this.#names.delete(sender)) this.#changed([...this.#names.values()]);
  }

  nobody() {
    for (const sender of [...this.#names.keys()]) this.stopped(sender);
  }
}

/** This person's typing: calls `signal` at most once every REPEAT milliseconds. */
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
