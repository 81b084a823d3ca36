// What a run asserts. No check is about speed, except that the limit was enough: what holds here also holds on a slower machine.

import { counted, total } from "./leftovers.mjs";
import { mebibytes } from "./report.mjs";

/**
 * Reads at rest in each resync period: those of all rooms together, and more for each room. The operator reads a broker as a whole, by pages,
 * unless it has only a few rooms there. It reads the Secret of each room from the API server, because it may not watch Secrets; the resync period varies by a fifth.
 */
const READS = { broker: { all: 100, room: 0.1 }, cluster: { all: 20, room: 1.25 } };

/** All checks, as { title, ok, why }. */
export function checks({ rooms, others, limit, keep, operator, creation, rest, change, restart, deletion }) {
  const all = [];
  const check = (title, ok, why) => all.push({ title, ok: Boolean(ok), why });
  check(`all ${rooms} rooms became Ready`, creation.ready === rooms, `${creation.ready} were Ready after ${limit} s; another one says: ${creation.message}`);

  const ended = [creation, rest, change, deletion].some((part) => part && !part.counted);
  check("no operator ended by itself", !ended, "an operator was started again; `kubectl describe pod` says why");
  // Of an operator that was started again nobody knows what it had counted: then these checks fail.
  const atRest = rest.counted ?? {};
  const perPeriod = (name) => (atRest[name] * operator.resync) / rest.seconds;
  const most = ({ all, room }) => all + room * (rooms + others);
  const isFew = (name, bound) => perPeriod(name) <= most(bound);
  const why = (name, bound) => `${Math.round(perPeriod(name))} reads in each resync period, more than ${Math.round(most(bound))}`;
  for (const [name, where] of [["writes", "the API server"], ["brokerWrites", "the broker"]]) {
    check(`rooms at rest cost ${where} no write`, atRest[name] === 0, `${atRest[name]} writes in ${Math.round(rest.seconds)} s`);
  }
  check("a room at rest costs the API server one read in a resync period", isFew("reads", READS.cluster), why("reads", READS.cluster));
  check("reads from the broker at rest do not grow with the rooms", isFew("brokerReads", READS.broker), why("brokerReads", READS.broker));

  const peak = Math.max(creation.peak.operator, restart.peak.operator, deletion?.peak.operator ?? 0);
  if (operator.memoryLimit) check("the operator's memory stayed below its limit", peak < operator.memoryLimit, `${mebibytes(peak)} of ${mebibytes(operator.memoryLimit)} MiB`);
  check("a changed room became Ready again", change.seconds < Infinity, `it was not after ${limit} s`);
  check("a restarted operator reconciled all rooms", restart.seconds < Infinity, restart.message);
  if (keep) return all;

  check(`all ${rooms} rooms were deleted`, deletion.gone === rooms, `${deletion.gone} were gone after ${limit} s`);
  check("no object is left on the broker", total(deletion.onBroker) === 0, counted(deletion.onBroker));
  check("no object is left in the cluster", total(deletion.inCluster) === 0, counted(deletion.inCluster));
  return all;
}
