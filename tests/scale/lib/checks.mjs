// What a run asserts. No check is about speed, except that the limit was enough: what holds here also holds on a slower machine.

import { counted, total } from "./leftovers.mjs";
import { mebibytes } from "./report.mjs";

/** Requests at rest for each resync period that do not depend on the number of rooms, and rooms that may share one more. */
const REQUESTS_AT_REST = 20;
const ROOMS_PER_REQUEST = 10;

/** All checks, as { title, ok, why }. */
export function checks({ rooms, others, limit, keep, operator, creation, rest, change, restart, deletion }) {
  const all = [];
  const check = (title, ok, why) => all.push({ title, ok: Boolean(ok), why });
  check(`all ${rooms} rooms became Ready`, creation.ready === rooms, `${creation.ready} were Ready after ${limit} s; another one says: ${creation.message}`);

  const perPeriod = (name) => (rest.counted[name] * operator.resync) / rest.seconds;
  const few = REQUESTS_AT_REST + (rooms + others) / ROOMS_PER_REQUEST;
  for (const [name, where] of [["writes", "the API server"], ["brokerWrites", "the broker"]]) {
    check(`rooms at rest cost ${where} no write`, rest.counted[name] === 0, `${rest.counted[name]} writes in ${Math.round(rest.seconds)} s`);
  }
  for (const [name, where] of [["reads", "the API server"], ["brokerReads", "the broker"]]) {
    check(`reads from ${where} at rest do not grow with the rooms`, perPeriod(name) <= few, `${Math.round(perPeriod(name))} in each resync period, more than ${few}`);
  }

  const peak = Math.max(creation.peak.operator, restart.peak.operator, deletion?.peak.operator ?? 0);
  if (operator.memoryLimit) check("the operator's memory stayed below its limit", peak < operator.memoryLimit, `${mebibytes(peak)} of ${mebibytes(operator.memoryLimit)} MiB`);
  check("no operator ended by itself", !creation.restarted && !deletion?.restarted, "an operator was started again; `kubectl describe pod` says why");
  check("a changed room became Ready again", change.seconds < Infinity, `it was not after ${limit} s`);
  check("a restarted operator reconciled all rooms", restart.seconds < Infinity, restart.message);
  if (keep) return all;

  check(`all ${rooms} rooms were deleted`, deletion.gone === rooms, `${deletion.gone} were gone after ${limit} s`);
  check("no object is left on the broker", total(deletion.onBroker) === 0, counted(deletion.onBroker));
  check("no object is left in the cluster", total(deletion.inCluster) === 0, counted(deletion.inCluster));
  return all;
}
