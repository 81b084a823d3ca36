// Messages as they come from the server. Other programs can write to a room's log, so a message can hold anything: it is checked here, once,
// and the rest of the page relies on its types. Pure.

/** The last time that a date with four digits for the year can show, in milliseconds since 1970. */
const LAST_TIME = Date.UTC(10_000, 0) - 1;

/** The message, with `at: null` if its time is no time; `null` if it has no place in the log. */
export function messageFrom(value) {
  const { text, id, offset, user, sender, at, verified } = value ?? {};
  if (!Number.isSafeInteger(offset) || offset < 0) return null;
  const author = { user: string(user), sender: string(sender), verified: verified === true };
  return { text: string(text), id: string(id) || `offset ${offset}`, offset, ...author, at: timeFrom(at) };
}

/** A time that can be shown, or `null`. */
export function timeFrom(at) {
  return Number.isFinite(at) && at >= 0 && at <= LAST_TIME ? at : null;
}

/** The messages of a list. */
export function messagesFrom(list) {
  return Array.isArray(list) ? list.map(messageFrom).filter(Boolean) : [];
}

function string(value) {
  return typeof value === "string" ? value : "";
}
