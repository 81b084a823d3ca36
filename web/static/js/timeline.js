// The timeline: the part of the room's log that this page has loaded, ascending by offset. Pure: no DOM, no clock.
//
// Its length is bounded. `newest` is the last offset that the page has received: a reconnect resumes after it. A `detached` timeline
// ends before `newest`, and scrolling down loads newer messages.

export class Timeline {
  epoch = null;
  messages = [];
  /** Whether the log has messages older than the first loaded one. */
  more = false;
  newest = null;
  detached = false;
  /** Notices about the log, each shown before the first message at or after its `before`: { kind, before }. */
  notices = [];
  #keys = new Set();

  /** Takes the `history` that follows a connect; returns the messages that the person has missed. */
  begin({ epoch, messages, recovered, more, gap }) {
    if (recovered && epoch === this.epoch) {
      if (gap) this.notices.push({ kind: "gap", before: gap.to });
      return messages.filter((message) => this.add(message));
    }
    const kind = this.epoch !== epoch ? "restarted" : gap ? "gap" : "reloaded";
    const wasHere = this.newest !== null;
    this.#reset(epoch, messages, more);
    if (wasHere) this.notices = [{ kind, before: messages[0]?.offset ?? 0 }];
    return [];
  }

  /** Takes a live message; returns `false` if the page has already received it. */
  add(message) {
    if (this.newest !== null && message.offset <= this.newest) return false;
    this.newest = message.offset;
    if (this.#keys.has(keyOf(message))) return false;
    if (!this.detached) {
      this.messages.push(message);
      this.#keys.add(keyOf(message));
    }
    return true;
  }

  /** Takes a page of older messages. */
  prepend(page, more) {
    const first = this.messages[0]?.offset ?? Infinity;
    const older = page.filter((message) => message.offset < first && !this.#keys.has(keyOf(message)));
    this.more = more;
    this.#keep([...older, ...this.messages]);
  }

  /** Takes a page of newer messages that ends before the offset `end`, while the timeline is detached. */
  append(page, end) {
    const last = this.messages.at(-1)?.offset ?? -1;
    const newer = page.filter((message) => message.offset > last && !this.#keys.has(keyOf(message)));
    this.#keep([...this.messages, ...newer]);
    this.detached = end <= this.newest;
  }

  /** Replaces all messages with a page that ended at the newest message when it was requested. */
  jump(page, more) {
    const { newest } = this;
    this.#reset(this.epoch, page, more);
    this.detached = newest > this.newest;
    this.newest = Math.max(newest, this.newest);
  }

  /** Drops all messages except the newest `most`; scrolling loads the others again. */
  dropOldest(most) {
    if (this.messages.length <= most) return;
    this.more = true;
    this.#keep(this.messages.slice(-most));
  }

  /** Drops all messages except the oldest `most`, which detaches the timeline. */
  dropNewest(most) {
    if (this.messages.length <= most) return;
    this.detached = true;
    this.#keep(this.messages.slice(0, most));
  }

  #reset(epoch, messages, more) {
    this.epoch = epoch;
    this.more = more;
    this.detached = false;
    this.notices = [];
    this.newest = messages.at(-1)?.offset ?? null;
    this.#keep(messages);
  }

  #keep(messages) {
    this.messages = messages;
    this.#keys = new Set(messages.map(keyOf));
  }
}

/** Two records with the same sender and id are one message. */
export function keyOf({ sender, id }) {
  return `${sender}/${id}`;
}
