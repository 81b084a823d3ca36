// Clients that arrive by the thousand in a second and hang up (43).

import { lasting } from "../../lib/wait.mjs";
import { Wire } from "../../lib/wire.mjs";
import { defaultOf } from "../lib/defaults.mjs";
import { listed } from "../lib/loops.mjs";

const RATE = 3_000;
/** So many addresses may open 3,000 connections a second together. */
const MANY = 150;
/** Arrivals a second without which the attack proves nothing, on a machine that does not reach the rate. */
const LEAST = 300;
const TICK = 0.01;
/** Connections that wait for an answer. */
const MOST_OPEN = 4_000;

const one = ["127.0.0.7"];
const many = Array.from({ length: MANY }, (_, n) => `127.0.1.${n + 1}`);
export const arrivals = (addresses) => () => [{ module: import.meta.url, name: "arrive", addresses }];
export const manyArrivals = arrivals(many);

function judge({ row: { counts: [counts] }, expect }) {
  const { seconds, tried = 0, joining = 0, skipped = 0, ...others } = counts;
  expect(tried / seconds >= LEAST, `only ${(tried / seconds).toFixed(0)} clients a second arrived`);
  return `${(tried / seconds).toFixed(0)} arrivals/s, ${(joining / seconds).toFixed(0)} of them sent CONNECT and hung up; ${listed(others)}`;
}

export default [
  {
    number: "43a",
    title: "3,000 arrivals a second of one address, which hang up",
    bound: () => `${defaultOf("address-connects-per-second")} connections/s of an address (at once ${defaultOf("address-connect-burst")}); who is gone has no turn to join`,
    quick: true,
    attackers: arrivals(one),
    judge({ row, expect, ...context }) {
      expect((row.rejections.rate_limited ?? 0) > 0, "the address met no limit");
      return judge({ row, expect, ...context });
    },
  },
  {
    number: "43b",
    title: "3,000 arrivals a second of 150 addresses, which hang up",
    bound: "1,000 joins/s, addresses take turns, 10,000 wait; who is gone has no turn",
    attackers: manyArrivals,
    judge,
  },
];

/** Opens connections at a constant rate. Each sends its CONNECT packet when it may, and ends at once. */
export async function arrive({ port, addresses }, { count, signal }) {
  const open = new Set();
  const begun = performance.now();
  for (let tried = 0; !signal.aborted; await lasting(TICK)) {
    for (const due = ((performance.now() - begun) / 1000) * RATE; tried < due; tried++) {
      if (open.size >= MOST_OPEN) {
        count("skipped");
        continue;
      }
      count("tried");
      const wire = new Wire(
        { port, localAddress: addresses[tried % addresses.length] },
        {
          open: () => (count("joining"), wire.send("40"), wire.hangUp()),
          refused: (status) => count(`status ${status}`),
          end: (error) => (error && count(`error ${error.code}`), open.delete(wire)),
        },
      );
      open.add(wire);
    }
  }
  for (const wire of open) wire.hangUp();
}
