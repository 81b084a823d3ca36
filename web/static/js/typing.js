// Who is typing: others send a signal now and then while they type, and it holds for a few seconds.

const BELIEVED = 3_000;
const REPEAT = 2_000;

/** The others. `changed(names)` is called after every change. */
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

/** This person: calls `signal` as often as the others need it. */
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
