// One fault under traffic: members join, talk, the fault happens, everybody catches up, and the judge reads it all.

import { catchingUp, judge, percentile } from "./checker.mjs";
import { Loopback } from "./loopback.mjs";
import { Member } from "./member.mjs";
import { Traffic } from "./traffic.mjs";
import { lasting, until } from "./wait.mjs";

/** Seconds within which 99 % of the clients must have caught up. */
const CAUGHT_UP_WITHIN = 10;
const FLAGS = ["--drain-period", "3", "--message-burst", "200", "--max-messages-per-second", "50"];

/** Makes a fault in a room of its own on this machine. A row of the table. */
export async function loopback(fault, broker, settings) {
  const begun = Date.now();
  const expectations = [];
  const expect = (holds, otherwise) => holds || expectations.push(otherwise);
  const members = [];
  let place;
  let row = {};
  try {
    const prepared = (await fault.prepare?.({ broker })) ?? {};
    place = await Loopback.start(broker, { flags: [...FLAGS, ...(fault.flags ?? []), ...(prepared.flags ?? [])] });
    const names = [...numbered("sender", settings.senders), ...numbered("reader", settings.readers)];
    members.push(...(await Promise.all(names.map((name) => Member.join(place.url, name)))));
    const traffic = new Traffic(members.slice(0, settings.senders), settings.rate, fault.text);
    await lasting(settings.around);
    const { end, note, others = [] } = await fault.run({ place, broker, members, traffic, prepared, expect });
    members.push(...others);
    await until("somebody's message after the fault was acknowledged", () => members.some(({ sent }) => sent.some(({ at, acknowledged }) => at >= end && acknowledged)), 60);
    await lasting(settings.around);
    await traffic.stop();
    const history = await settled(place, broker, members);
    row = { ...conclude(fault, history, end, expect), note };
  } catch (error) {
    expectations.push(error.stack);
  } finally {
    for (const member of members) member.leave();
    await place?.stop();
  }
  const faults = [...expectations, ...(row.faults ?? [])];
  return { number: fault.number, title: fault.title, ...row, faults, ok: faults.length === 0, seconds: Math.round((Date.now() - begun) / 1000) };
}

/** Waits until every member was shown all that was acknowledged, as far as it will be, and reads the logs. */
export async function settled(place, broker, members) {
  const [{ epoch }] = members;
  const last = members.flatMap(({ sent }) => sent).reduce((most, { acknowledged }) => (acknowledged?.epoch === epoch ? Math.max(most, acknowledged.offset) : most), -1);
  // Whoever is not shown it will be found wanting by the judge, which says more than a time-out.
  await until("all were shown the last message", () => members.every((member) => member.epoch === epoch && member.offset >= last), 30).catch(() => {});
  const shown = members.reduce((most, member) => (member.epoch === epoch ? Math.max(most, member.offset) : most), last);
  const logs = { [epoch]: { ...(await broker.log(place.stream(epoch), shown)), whole: true } };
  for (const { notices } of members) for (const notice of notices) logs[notice.epoch] ??= { records: [], whole: false };
  return { members: members.map(({ history }) => history), logs };
}

function conclude(fault, history, end, expect) {
  const verdict = judge(history);
  fault.check?.(verdict, expect);
  const seconds = catchingUp(history, end);
  const [most, all] = [percentile(seconds, 0.99), percentile(seconds, 1)];
  const within = fault.within ?? CAUGHT_UP_WITHIN;
  expect(most <= within, `99 % had caught up only after ${most} s, not within ${within} s`);
  expect(all < Infinity, `${seconds.filter((value) => value === Infinity).length} members never caught up`);
  return { ...verdict, caughtUp99: most, caughtUp100: all, silence: silence(history) };
}

/** The longest time between two messages that one and the same member was shown, in seconds. */
function silence({ members }) {
  let most = 0;
  for (const { shown } of members) for (let n = 1; n < shown.length; n++) most = Math.max(most, shown[n].at - shown[n - 1].at);
  return most / 1000;
}

const numbered = (name, count) => Array.from({ length: count }, (_, n) => `${name} ${n + 1}`);
