// Who is present. The count comes from the server and is exact; the names are those it has sent, which may not be all.

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

  /** How many are present whose names are not known. */
  get rest() {
    return Math.max(0, this.count - this.names.size);
  }
}
