// Rows: the content of the log view from top to bottom, as data. Pure; `view/log.js` shows it.

import { dayOf } from "./dates.js";
import { keyOf } from "./timeline.js";

/** Messages of one sender within this time form a group under one name. */
const GROUP_WITHIN = 5 * 60_000;

/**
 * Rows of kind `edge` (whether older messages exist), `day`, `notice`, `marker` (the first new message) and `message`. A person's own
 * message has the same key in the outbox and in the log, so that it stays the same element. `guest` says that the row's author is not signed
 * in, where others are: if `apart`, or if somebody who is signed in has written.
 */
export function rows({ timeline, outbox, me, marker, loading, apart = false }) {
  const tellsApart = apart || timeline.messages.some(({ verified }) => verified);
  const list = [{ kind: "edge", key: "edge", edge: edge(timeline, outbox, loading) }];
  const notices = [...timeline.notices];
  let previous = null;
  let day = null;
  for (const message of [...shown(timeline, me), ...(timeline.detached ? [] : written(outbox, me))]) {
    const breaks = [];
    // A message that the log does not have yet comes after everything that is said of the log.
    while (notices.length && (message.offset ?? Infinity) >= notices[0].before) breaks.push(notice(notices.shift()));
    if (message.offset === marker && marker !== null) breaks.push({ kind: "marker", key: "marker" });
    // A message without a time belongs to the day of the one before it.
    if (message.at !== null && dayOf(message.at) !== day) {
      day = dayOf(message.at);
      breaks.push({ kind: "day", key: `day ${message.key}`, at: message.at });
    }
    const first = breaks.length > 0 || previous?.sender !== message.sender || previous.user !== message.user || message.at - previous.at > GROUP_WITHIN;
    list.push(...breaks, { kind: "message", message, key: message.key, first, guest: tellsApart && !message.verified });
    previous = message;
  }
  return [...list, ...notices.map(notice)];
}

function shown({ messages }, me) {
  return messages.map((message) => {
    const own = message.sender === me.sender;
    return { ...message, own, state: own ? "sent" : null, key: own ? `own ${message.id}` : keyOf(message) };
  });
}

function written(outbox, me) {
  return outbox.map((entry) => ({ ...entry, offset: undefined, sender: me.sender, user: me.user, verified: me.verified, own: true, key: `own ${entry.id}` }));
}

function notice({ kind, before }) {
  return { kind: "notice", key: `notice ${before}`, notice: kind };
}

function edge({ messages, more, epoch }, outbox, loading) {
  if (epoch === null) return "unknown";
  if (loading) return "loading";
  if (more) return "more";
  return messages.length || outbox.length ? "beginning" : "empty";
}
