// Presence: the number and names of the members. The server sends the exact number, but not always all names.

export class Presence {
  count = 0;
  names = new Set();

  /** Takes a `presence` event. When somebody reloads the page, the same event says that they left and joined. */
  take(event) {
    const { count, joined, left, members } = event ?? {};
    this.count = Number.isSafeInteger(count) && count > 0 ? count : 0;
    if (members) this.names = new Set(namesFrom(members));
    for (const name of namesFrom(left)) this.names.delete(name);
    for (const name of namesFrom(joined)) this.names.add(name);
  }

  /** The number of members whose names the page does not know. */
  get rest() {
    return Math.max(0, this.count - this.names.size);
  }
}

/** The names in a list, which comes from other servers of the room. */
function namesFrom(list) {
  return Array.isArray(list) ? list.filter((name) => typeof name === "string") : [];
}
