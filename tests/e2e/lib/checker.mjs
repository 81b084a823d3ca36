// Reads what every member was shown, and says what was lost, shown twice, or out of order.

import assert from "node:assert/strict";

import { until } from "./wait.mjs";

/** Waits for the members to have been shown all acknowledged messages, then holds them against each other. */
export async function everyoneSawEverything(members, seconds = 30) {
  const acknowledged = members.flatMap((member) => member.acknowledged);
  const missing = (member) => {
    const shown = new Set(member.seen.map(({ id }) => id));
    return acknowledged.filter((id) => !shown.has(id)).length;
  };
  await until(
    "all members were shown all acknowledged messages",
    () => {
      const lacking = members.filter(missing).map((member) => `${member.name} lacks ${missing(member)} of ${acknowledged.length}`);
      if (lacking.length > 0) throw new Error(lacking.join(", "));
      return true;
    },
    seconds,
  );
  for (const member of members) {
    const ids = member.seen.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length, `${member.name} was shown a message twice`);
    const offsets = member.seen.map(({ offset }) => offset);
    assert.deepEqual(offsets, offsets.toSorted((a, b) => a - b), `${member.name} was shown messages out of order`);
    assert.equal(member.forgotten, 0, `${member.name} was not resumed where it was`);
    assert.deepEqual(member.gaps, [], `${member.name} was told of a hole`);
  }
  return acknowledged.length;
}

/** Members who were there from the first message on were shown the very same sequence. */
export function everyoneSawTheSame(members) {
  const [first, ...others] = members.map(({ seen }) => seen.map(({ id }) => id));
  for (const other of others) assert.deepEqual(other, first);
}
