// What arrived while nobody looked: how many, and before which message the "new messages" line stands.

export class Unread {
  count = 0;
  /** Offset of the first message nobody had seen; the line stays until the next absence, so that it can be found. */
  marker = null;
  #looking = true;

  arrived(message) {
    if (this.#looking) return;
    if (this.count === 0) this.marker = message.offset;
    this.count += 1;
  }

  /** Whether the person sees the end of the conversation now. */
  look(looking) {
    if (this.#looking && !looking) this.marker = null;
    this.#looking = looking;
    if (looking) this.count = 0;
  }

  /** They answered: they have read it. */
  answered() {
    this.marker = null;
  }

  /** The conversation was loaded anew. */
  forget() {
    this.count = 0;
    this.marker = null;
  }
}
