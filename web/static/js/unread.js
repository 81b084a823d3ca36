// Unread messages: their number, and the position of the "new messages" line.

export class Unread {
  count = 0;
  /** Offset of the first unread message. The line stays while the person reads, until the person leaves the end of the conversation. */
  marker = null;
  #looking = true;

  arrived(message) {
    if (this.#looking) return;
    if (this.count === 0) this.marker = message.offset;
    this.count += 1;
  }

  /** Sets whether the person sees the end of the conversation now. */
  look(looking) {
    if (this.#looking && !looking) this.marker = null;
    this.#looking = looking;
    if (looking) this.count = 0;
  }

  /** The person has sent a message, and so has read the others. */
  answered() {
    this.marker = null;
  }

  /** The conversation was loaded again. */
  forget() {
    this.count = 0;
    this.marker = null;
  }
}
