// Who is here. The count is the server's and exact; the names are what it has told, and need not be everybody's.

export class Presence {
  count = 0;
  names = new Set();

  /** Takes a `presence` event; one who reloads their page leaves and joins in the same one. */
  take({ count, joined = [], left = [], members }) {
    this.count = count;
    if (members) this.names = new Set(members);
    for (const name of left) this.names.delete(name);
    for (const name of joined) this.names.add(name);
  }

  /** How many are here beyond those named. */
  get rest() {
    return Math.max(0, this.count - this.names.size);
  }
}
