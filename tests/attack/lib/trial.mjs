// Runs one attack: honest members are measured alone, then beside the attack, and last their histories are compared with the log.

import { judge, settled } from "../../lib/checker.mjs";
import { until } from "../../lib/wait.mjs";
import { Attackers } from "./attackers.mjs";
import { Honest } from "./honest.mjs";
import { Place } from "./place.mjs";

/**
 * What honest members may notice, in milliseconds. A slow machine is no fault of the server: a limit is never below ten times what was
 * measured alone, and that of the delivery a quarter above it, but at least 1 s.
 */
const LIMITS = { delivery: 1000, enter: 1500, scrollBack: 1000, probe: 5000 };
const SLOW_MACHINE = 10;
const A_QUARTER = 1.25;
/** Seconds within which a new member enters after the end of an attack. */
const ENTERS_AFTER = 10;

/** Runs an attack in the room that `room` describes (`Place.start`); returns a row of the table. */
export async function trial(attack, settings, broker, room) {
  const begun = Date.now();
  const faults = [];
  const expect = (holds, otherwise) => holds || faults.push(otherwise);
  const row = { number: attack.number, title: attack.title };
  let place, honest, elsewhere;
  let attackers = [];
  try {
    row.bound = typeof attack.bound === "function" ? attack.bound() : attack.bound;
    const server = { descriptors: attack.descriptors, flags: [...(attack.flags ?? []), ...settings.flags] };
    place = await Place.start(broker, { ...room, ...server });
    if (settings.elsewhere) elsewhere = await Place.start(broker, { ...room, ...server });
    honest = await Honest.join(place);
    const first = usage(place);
    row.alone = await honest.measure(settings.alone);
    const before = usage(place);
    place.forgetPeak();
    const { port, adminPort } = elsewhere ?? place;
    const context = { place, honest, settings, epoch: honest.epoch, port, adminPort };
    attackers = (attack.attackers?.(context) ?? []).map((options) => new Attackers({ port, adminPort, ...options }));
    const [counted, beside] = await Promise.all([attack.run?.(context), honest.measure(attack.seconds?.(settings) ?? settings.beside)]);
    row.beside = beside;
    row.counts = [...(counted ? [counted] : []), ...(await Promise.all(attackers.map((attacker) => attacker.stop())))];
    const after = usage(place);
    const processor = { alone: share(first, before), beside: share(before, after) };
    row.server = { resident: before.resident, peak: place.peak(), processor };
    row.rejections = await place.rejections();
    row.measured = elsewhere ? "attacks another server" : await attack.judge({ ...context, row, expect });
    notice(row, attack, expect);
    await until("a new member enters after the attack", async () => (await honest.measure(0)).enter < Infinity, ENTERS_AFTER);
    await honest.traffic.stop();
    const verdict = judge(await settled({ log: place.readLog }, honest.members));
    faults.push(...verdict.faults);
    row.acknowledged = verdict.acknowledged;
    expect(verdict.acknowledged > 0, "no message of the honest members was acknowledged");
  } catch (error) {
    faults.push(error.stack);
  } finally {
    await Promise.all(attackers.map((attacker) => attacker.kill()));
    honest?.leave();
    await Promise.all([place?.stop(), elsewhere?.stop()]);
  }
  return { ...row, faults, ok: faults.length === 0, seconds: Math.round((Date.now() - begun) / 1000) };
}

/** Runs an attack in a cluster; returns a row of the table. */
export async function clusterTrial({ number, title, bound, run }) {
  const begun = Date.now();
  const faults = [];
  const row = { number, title, bound };
  try {
    row.measured = await run({ expect: (holds, otherwise) => holds || faults.push(otherwise) });
  } catch (error) {
    faults.push(error.stack);
  }
  return { ...row, faults, ok: faults.length === 0, seconds: Math.round((Date.now() - begun) / 1000) };
}

const usage = (place) => ({ resident: place.resident(), processor: place.processor(), at: Date.now() });

/** The share of a core that the server took between two moments. */
const share = (from, to) => (to.processor - from.processor) / ((to.at - from.at) / 1000);

/** Compares what the honest members noticed with what they may. `attack.notices` lists other limits; null: it may be anything. */
function notice({ alone, beside }, attack, expect) {
  const limits = { ...LIMITS, ...attack.notices };
  expect(Object.values(alone).every((value) => value !== Infinity), `without an attack, the honest members measured ${JSON.stringify(alone)}`);
  for (const [what, limit] of Object.entries(limits)) {
    if (limit === null) continue;
    const most = Math.max(limit, (what === "delivery" ? A_QUARTER : SLOW_MACHINE) * alone[what]);
    expect(beside[what] <= most, `${what}: ${Math.round(beside[what])} ms beside the attack, ${Math.round(alone[what])} ms alone, and at most ${Math.round(most)} ms are expected`);
  }
}
