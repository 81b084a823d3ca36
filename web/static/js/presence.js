// Presence: the number and names of the members. The server sends the exact number, but not always all names.

export class Presence {
  count = 0;
  names = new Set();

  /** Takes a `presence` event. When somebody reloads the page, the same event says that they left and joined. */
  take({ count, joined = [], left = [], members }) {
    this.count = count;
    if (members) this.names = new Set(members);
    for (const name of left) this.names.delete(name);
    for (const name of joined) this.names.add(name);
  }

  /** The number of members whose names the page does not know. */
  get rest() {
    return Math.max(0, this.count - this.names.size);
  }
}
