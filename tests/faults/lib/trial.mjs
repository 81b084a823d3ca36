// Runs one fault under traffic: members join and send, the fault happens, all members catch up, and the checker compares their
// histories with the log.

import { catchingUp, judge, percentile, settled } from "../../lib/checker.mjs";
import { Member, numbered } from "../../lib/member.mjs";
import { Traffic } from "../../lib/traffic.mjs";
import { lasting, until } from "../../lib/wait.mjs";

/** Seconds within which 99 % of the clients must have caught up. */
const CAUGHT_UP_WITHIN = 10;

/** Causes a fault in the room that `open` starts; returns a row of the table. */
export async function trial(fault, settings, context, open) {
  const begun = Date.now();
  const expectations = [];
  const expect = (holds, otherwise) => holds || expectations.push(otherwise);
  const members = [];
  let place;
  let row = {};
  try {
    const prepared = (await fault.prepare?.(context)) ?? {};
    place = await open([...(fault.flags ?? []), ...(prepared.flags ?? [])]);
    members.push(...(await joined(place, settings)));
    const traffic = new Traffic(members.slice(0, settings.senders), settings.rate, fault.text);
    await lasting(settings.around);
    const { end, note, others = [] } = await fault.run({ ...context, place, members, prepared, expect });
    row = { note };
    members.push(...others);
    if (!fault.ends) {
      await talksAgain(members, end);
      await lasting(settings.around);
      await traffic.stop();
      row = { ...row, ...conclude(fault, await settled(place, members), end, expect) };
    }
  } catch (error) {
    expectations.push(error.stack);
  } finally {
    for (const member of members) member.leave();
    await place?.stop();
  }
  const faults = [...expectations, ...(row.faults ?? [])];
  return { number: fault.number, title: fault.title, ...row, faults, ok: faults.length === 0, seconds: Math.round((Date.now() - begun) / 1000) };
}

/** Joins the senders, then the members that only read. */
export function joined(place, { senders, readers }) {
  const names = [...numbered(senders, "sender"), ...numbered(readers, "reader")];
  return Promise.all(names.map((name) => Member.join(place.url, name, { texts: false, ...place.memberOptions })));
}

/** Waits until a message that was sent after the fault was acknowledged. */
export const talksAgain = (members, end) =>
  until("a message sent after the fault was acknowledged", () => members.some(({ sent }) => sent.some(({ at, acknowledged }) => at >= end && acknowledged)), 60);

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

/** The longest time between two messages that the same member was shown, in seconds. */
function silence({ members }) {
  let most = 0;
  for (const { shown } of members) for (let n = 1; n < shown.length; n++) most = Math.max(most, shown[n].at - shown[n - 1].at);
  return most / 1000;
}
