// The checker: compares what clients sent and were shown with the room's log, and reports messages that were lost, repeated, out of
// order, or missing without a notice. The invariants I1 to I4 are the promises 1 to 4 of docs/promises.md.
//
// A history:
//   members: [{ name, sender, sent, shown, notices, left? }]; `left`: it left before the end
//     sent:    [{ id, at, attempts, connection, acknowledged?: { epoch, offset, at } }], in the order they were sent
//     shown:   [{ epoch, offset, sender, id, at }], in the order they were shown
//     notices: [{ before, kind: "page" | "gap", epoch, from?, to? }]; `before`: index in `shown` of the next message
//   logs: { EPOCH: { records: [{ offset, sender, id }], head, whole } }, from the broker; `whole`: the log was not deleted

import assert from "node:assert/strict";

import { until } from "./wait.mjs";

/** The duplicate window, in offsets: `DEDUP_WINDOW` of papo-protocol. */
const DEDUP_WINDOW = 32_768;

const keyOf = ({ sender, id }) => `${sender} ${id}`;

/** The records that a member must be shown: all except duplicates. */
export function visible(records) {
  const latest = new Map();
  return records.filter((record) => {
    const key = keyOf(record);
    const earlier = latest.get(key);
    latest.set(key, record.offset);
    return earlier === undefined || record.offset - earlier > DEDUP_WINDOW;
  });
}

/** Checks a history against I1 to I4. `faults` has a line for each violation. */
export function judge({ members, logs }) {
  const verdict = { sent: 0, acknowledged: 0, lost: 0, repeated: 0, reordered: 0, holes: 0, invented: 0, duplicates: 0, announced: 0, faults: [] };
  const shownLogs = new Map(Object.entries(logs).map(([epoch, log]) => [epoch, index(log)]));
  for (const [, log] of shownLogs) verdict.duplicates += log.duplicates;
  const acknowledged = members.flatMap((member) => member.sent.filter((message) => message.acknowledged).map((message) => ({ ...message, member })));
  verdict.sent = members.reduce((sum, { sent }) => sum + sent.length, 0);
  verdict.acknowledged = acknowledged.length;
  stored(acknowledged, shownLogs, verdict);
  for (const member of members) {
    follow(member, shownLogs, verdict);
    inOrderSent(member, verdict);
  }
  verdict.ok = verdict.faults.length === 0;
  return verdict;
}

function index({ records, head = 0, whole = true }) {
  const order = visible(records);
  const place = new Map(order.map((record, at) => [record.offset, at]));
  const keys = new Map(order.map((record) => [keyOf(record), record.offset]));
  return { order, place, keys, head, whole, duplicates: records.length - order.length };
}

/** I1, first half: every acknowledged message is in the log, at the offset of its acknowledgement. */
function stored(acknowledged, logs, verdict) {
  for (const { id, acknowledged: { epoch, offset }, member } of acknowledged) {
    const log = logs.get(epoch);
    if (!log?.whole || offset < log.head) continue;
    const found = log.keys.get(keyOf({ sender: member.sender, id }));
    if (found === undefined) wrong(verdict, "lost", `${member.name}: ${id} was acknowledged and is not in the log`);
    else if (found !== offset) wrong(verdict, "invented", `${member.name}: ${id} was acknowledged at ${offset} and is at ${found}`);
  }
}

/** I1, second half, and I2 to I4: a member was shown the log's messages in order, without holes except those of its notices. */
function follow({ name, shown, notices, left }, logs, verdict) {
  const seen = new Set();
  const noticesAt = new Map();
  for (const notice of notices) noticesAt.set(notice.before, [...(noticesAt.get(notice.before) ?? []), notice]);
  let epoch, last;
  for (const [at, message] of shown.entries()) {
    const key = `${message.epoch} ${keyOf(message)}`;
    const noticed = noticesAt.get(at) ?? [];
    const paged = noticed.some(({ kind }) => kind === "page");
    if (message.epoch !== epoch) {
      if (!paged) wrong(verdict, "holes", `${name}: epoch ${message.epoch} began without a page`);
      last = undefined;
    }
    epoch = message.epoch;
    // A new page may repeat messages that were shown before it. Messages between those and the page still count as missing.
    if (paged) {
      seen.clear();
      if (last !== undefined && message.offset <= last.offset) last = undefined;
    }
    if (seen.has(key)) {
      wrong(verdict, "repeated", `${name}: ${message.id} at ${message.offset} was shown twice`);
      continue;
    }
    seen.add(key);
    const log = logs.get(epoch);
    const place = log?.place.get(message.offset);
    if (place === undefined) {
      // In a deleted log, or before its head, only order and repetition can be judged.
      if (log?.whole && message.offset >= log.head) wrong(verdict, "invented", `${name}: was shown ${message.id} at ${message.offset}, which is not in the log`);
      if (last !== undefined && message.offset <= last.offset) wrong(verdict, "reordered", `${name}: ${message.offset} came after ${last.offset}`);
      last = { offset: message.offset };
      continue;
    }
    if (keyOf(log.order[place]) !== keyOf(message)) wrong(verdict, "invented", `${name}: was shown ${message.id} at ${message.offset}, where the log has ${log.order[place].id}`);
    if (last !== undefined && message.offset <= last.offset) wrong(verdict, "reordered", `${name}: ${message.offset} came after ${last.offset}`);
    else if (last?.place !== undefined) missing(name, log, last.place + 1, place, noticed, verdict);
    last = { offset: message.offset, place };
  }
  const log = logs.get(epoch);
  if (!left && log?.whole && last?.place !== undefined) missing(name, log, last.place + 1, log.order.length, [], verdict);
}

/** Counts the messages of the log that a member was not shown: `announced` if a notice covers them, else `holes`. */
function missing(name, log, from, to, noticed, verdict) {
  for (const { offset, id } of log.order.slice(from, to)) {
    if (noticed.some((notice) => notice.kind === "gap" && notice.from <= offset && offset <= notice.to)) verdict.announced += 1;
    else wrong(verdict, "holes", `${name}: ${id} at ${offset} was never shown`);
  }
}

/** I3: messages of one connection that were sent once are stored in the order in which they were sent. */
function inOrderSent({ name, sent }, verdict) {
  let last;
  for (const message of sent) {
    const { acknowledged, attempts, connection } = message;
    if (!acknowledged || attempts !== 1) {
      last = undefined;
      continue;
    }
    const after = last?.connection === connection && last.acknowledged.epoch === acknowledged.epoch;
    if (after && acknowledged.offset <= last.acknowledged.offset) {
      wrong(verdict, "reordered", `${name}: sent ${message.id} after ${last.id}, and it is stored before it`);
    }
    last = message;
  }
}

function wrong(verdict, kind, line) {
  verdict[kind] += 1;
  if (verdict.faults.length < 50) verdict.faults.push(line);
}

/** The log, reconstructed from the messages that these members were shown and the acknowledgements that they got. */
export function pooled(histories) {
  const logs = {};
  const add = (epoch, { offset, sender, id }) => (logs[epoch] ??= new Map()).set(offset, { offset, sender, id });
  for (const { sender, sent, shown } of histories) {
    for (const message of shown) add(message.epoch, message);
    for (const { id, acknowledged } of sent) if (acknowledged) add(acknowledged.epoch, { ...acknowledged, sender, id });
  }
  const inOrder = (records) => [...records.values()].toSorted((a, b) => a.offset - b.offset);
  return Object.fromEntries(Object.entries(logs).map(([epoch, records]) => [epoch, { records: inOrder(records), head: 0, whole: true }]));
}

/**
 * Waits until all members were shown every message that was acknowledged to any of them. Fails if a message was lost, repeated or
 * out of order, or a member got more than its first page. Returns the number of acknowledged messages.
 */
export async function everyoneSawEverything(members, seconds = 60) {
  const keys = members.flatMap(({ sender, acknowledged }) => acknowledged.map(({ id }) => keyOf({ sender, id })));
  await until(
    "all members were shown all acknowledged messages",
    () => {
      for (const { name, shown } of members) {
        const seen = new Set(shown.map(keyOf));
        const missing = keys.filter((key) => !seen.has(key)).length;
        if (missing) throw new Error(`${name} lacks ${missing} of ${keys.length}`);
      }
      return true;
    },
    seconds,
  );
  const histories = members.map(({ history }) => history);
  assert.deepEqual(judge({ members: histories, logs: pooled(histories) }).faults, []);
  for (const { name, notices } of members) assert.equal(notices.length, 1, `${name} got more than its first page: ${JSON.stringify(notices)}`);
  return keys.length;
}

/** How often the log is read again because somebody else's message was stored meanwhile. */
const READS = 5;

/** Waits up to 30 s until every member was shown the last acknowledged message, and reads the log as far as they were; returns the history. */
export async function settled(place, members) {
  const [{ epoch }] = members;
  const latest = (offsets) => offsets.reduce((most, offset) => Math.max(most, offset), -1);
  const shown = () => latest(members.map((member) => (member.epoch === epoch ? member.offset : -1)));
  let last = latest(members.flatMap(({ sent }) => sent).map(({ acknowledged }) => (acknowledged?.epoch === epoch ? acknowledged.offset : -1)));
  let log;
  for (let reads = 0; reads < READS; reads += 1) {
    // A member that was not shown the message is no error here: the checker reports exactly which messages are missing.
    await until("all were shown the last message", () => members.every((member) => member.left || (member.epoch === epoch && member.offset >= last)), 30).catch(() => {});
    log = await place.log(epoch, Math.max(last, shown()));
    const end = visible(log.records).at(-1)?.offset ?? -1;
    if (end <= last && shown() <= end) break;
    last = Math.max(last, end);
  }
  const logs = { [epoch]: { ...log, whole: true } };
  for (const { notices } of members) for (const notice of notices) logs[notice.epoch] ??= { records: [], whole: false };
  return { members: members.map(({ history }) => history), logs };
}

/**
 * Seconds from `end` until each member had caught up: until it was shown all messages that were acknowledged by `end`, and the first
 * message sent after `end`. Messages before a member's last page do not count. Infinity for a member that never caught up.
 */
export function catchingUp({ members }, end) {
  const acknowledged = members.flatMap(({ sender, sent }) =>
    sent.filter((message) => message.acknowledged).map(({ id, at, acknowledged }) => ({ key: keyOf({ sender, id }), sentAt: at, answered: acknowledged.at, epoch: acknowledged.epoch, offset: acknowledged.offset })),
  );
  const due = acknowledged.filter(({ answered }) => answered <= end);
  const after = acknowledged.filter(({ sentAt }) => sentAt >= end).toSorted((a, b) => a.sentAt - b.sentAt);
  return members.map(({ shown, notices }) => {
    const times = new Map();
    for (const message of shown) if (!times.has(keyOf(message))) times.set(keyOf(message), message.at);
    const begun = shown[notices.findLast(({ kind }) => kind === "page")?.before ?? 0];
    const gone = (offset) => notices.some((notice) => notice.kind === "gap" && notice.from <= offset && offset <= notice.to);
    const waits = ({ epoch, offset }) => epoch === begun?.epoch && offset >= begun.offset && !gone(offset);
    const next = after.find(waits);
    const awaited = [...due.filter(waits), next];
    if (!next || awaited.some(({ key }) => !times.has(key))) return Infinity;
    return awaited.reduce((most, { key }) => Math.max(most, times.get(key) - end), 0) / 1000;
  });
}

/** The smallest value that this share of the values does not exceed. */
export function percentile(values, share) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)];
}
