// Causes random faults, one after the other, in one room under constant traffic. The printed seed repeats the sequence of faults,
// servers and pauses.

import { parseArgs } from "node:util";

import { LocalBroker } from "../lib/broker.mjs";
import { judge, settled } from "../lib/checker.mjs";
import { binary } from "../lib/server.mjs";
import { Traffic } from "../lib/traffic.mjs";
import { lasting, until } from "../lib/wait.mjs";
import { loopbackFaults } from "./faults.mjs";
import { Loopback } from "./lib/loopback.mjs";
import { random } from "./lib/random.mjs";
import { joined, talksAgain } from "./lib/trial.mjs";

const USAGE = `usage: make soak [ARGS="..."]
  --minutes N     duration in minutes (20)
  --seed N        repeat the faults of the run with this seed (random)
  --rate N        messages a second (50)
  --clients N     clients that send and read (30)`;
/** Faults that end with the room in its first state and need no flags of their own. */
const FAULTS = new Set([1, 2, 3, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 18, 19, "21a", 24]);

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "20" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 32)) },
    rate: { type: "string", default: "50" },
    clients: { type: "string", default: "30" },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log(USAGE);
  process.exit();
}

const faults = (await loopbackFaults()).filter(({ number }) => FAULTS.has(number));
const draw = random(Number(values.seed));
const begun = Date.now();
const clock = () => new Date(Date.now() - begun).toISOString().slice(11, 19);
console.log(`seed ${values.seed}; ${binary()}; ${values.clients} clients, ${values.rate} messages/s, ${values.minutes} minutes`);

const broker = await LocalBroker.start();
const wrong = [];
let made = 0;
try {
  const place = await Loopback.start(broker);
  const members = await joined(place, { senders: Number(values.clients), readers: 0 });
  const everybody = [...members];
  const traffic = new Traffic(members, Number(values.rate));
  while (Date.now() - begun < Number(values.minutes) * 60_000) {
    await lasting(1 + 7 * draw());
    const fault = faults[Math.floor(draw() * faults.length)];
    // A fault of one server affects the first of the list, so a shuffled list makes that server random.
    const shuffled = Object.create(place, { servers: { value: shuffle(place.servers) } });
    const resident = place.servers.map((server) => Math.round(server.resident() / 2 ** 20));
    console.log(`${clock()}  ${fault.number} ${fault.title}; servers have ${resident} MiB`);
    const expect = (holds, otherwise) => holds || wrong.push(`${clock()} fault ${fault.number}: ${otherwise}`);
    const { end, others = [] } = await fault.run({ place: shuffled, broker, members, expect });
    await talksAgain(members, end);
    await until("every client is shown messages again", () => members.every(({ shown }) => shown.at(-1)?.at >= end), 60);
    for (const other of others) other.leave();
    everybody.push(...others);
    made += 1;
  }
  await traffic.stop();
  const verdict = judge(await settled(place, everybody));
  wrong.push(...verdict.faults);
  const { sent, acknowledged, lost, repeated, reordered, holes, duplicates } = verdict;
  console.log(`${made} faults in ${clock()}: ${sent} sent, ${acknowledged} acknowledged, ${lost} lost, ${repeated} repeated, ${reordered} reordered, ${holes} missing unannounced, ${duplicates} duplicates hidden`);
  for (const member of members) member.leave();
  await place.stop();
} catch (error) {
  wrong.push(error.stack);
} finally {
  await broker.stop();
}
for (const line of wrong) console.log(line);
console.log(wrong.length ? `failed; repeat with: make soak ARGS="--seed ${values.seed}"` : "nothing was lost");
process.exit(wrong.length ? 1 : 0);

function shuffle(list) {
  const left = [...list];
  return list.map(() => left.splice(Math.floor(draw() * left.length), 1)[0]);
}
