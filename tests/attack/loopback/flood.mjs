// One address floods over short connections (41).

import { randomBytes } from "node:crypto";

import { Wire } from "../../lib/wire.mjs";
import { defaultOf } from "../lib/defaults.mjs";
import { codeOf, inLoops } from "../lib/loops.mjs";

/** What a limit may be exceeded by: the clocks of two processes differ, and an attack ends later than it is told to. */
const SLACK = 1.1;

const ADDRESS = "127.0.0.2";
/** Connections that are open at once, and the messages that each sends: its sender's burst. */
const AT_ONCE = 50;
const MESSAGES_EACH = 30;
/** 4,000 characters of four bytes: the longest message. */
const TEXT = "😀".repeat(4_000);

/** The limits by address of what an attacker uses: { rate, burst }. */
const limits = () => {
  const limit = (rate, burst) => ({ rate: defaultOf(`address-${rate}-per-second`), burst: defaultOf(`address-${burst}-burst`) });
  return { messages: limit("messages", "message"), bytes: limit("bytes", "byte"), connections: limit("connects", "connect") };
};

/** What an address may have used after so many seconds. */
const allowance = ({ rate, burst }, seconds) => Math.ceil((burst + rate * seconds) * SLACK);

export const flooders = () => [{ module: import.meta.url, name: "flood", address: ADDRESS }];

export default [
  {
    number: "41",
    title: "one address floods over short connections, each a new sender with its own burst of 16 kB messages",
    bound: () => `by address: ${Object.entries(limits()).map(([what, { rate, burst }]) => `${rate} ${what}/s (at once ${burst})`).join(", ")}`,
    quick: true,
    attackers: flooders,
    judge({ row: { counts: [counts] }, expect }) {
      const { seconds, opened = 0, stored = 0, bytes = 0, rate_limited: limited = 0, "status 429": tooMany = 0 } = counts;
      // Whoever waits for answers no longer comes to the limit of connections: its connections are read too slowly for that.
      expect(limited > 0, `the attack met no limit: ${JSON.stringify(counts)}`);
      const used = { messages: stored, bytes, connections: opened };
      for (const [what, limit] of Object.entries(limits()))
        expect(used[what] <= allowance(limit, seconds), `the address had ${used[what]} ${what} accepted in ${seconds.toFixed(1)} s, not at most ${allowance(limit, seconds)}`);
      const per = (number) => (number / seconds).toFixed(0);
      return `${per(opened + tooMany)} connections/s tried, ${per(opened)} accepted; ${per(stored)} messages/s and ${(bytes / seconds / 1024).toFixed(0)} KiB/s stored, ${limited} \`rate_limited\`, ${tooMany} × 429`;
    },
  },
];

/** Connects, sends a burst, and hangs up, again and again. */
export function flood({ port, address }, { count, signal }) {
  const body = JSON.stringify(TEXT);
  return inLoops(AT_ONCE, signal, (done) => {
    let answers = 0;
    const wire = new Wire(
      { port, localAddress: address },
      {
        open: () => (count("opened"), wire.send(`40${JSON.stringify({ token: randomBytes(12).toString("hex") })}`)),
        refused: (status) => count(`status ${status}`),
        packet(text) {
          if (text.startsWith('42["history"')) for (let n = 0; n < MESSAGES_EACH; n++) wire.send(`42${n}["message",${body}]`);
          else if (text.startsWith("44")) (count(codeOf(text)), wire.hangUp());
          else if (text.startsWith("43")) {
            if (text.includes('"ok":true')) (count("stored"), count("bytes", Buffer.byteLength(TEXT)));
            else count(codeOf(text));
            if ((answers += 1) === MESSAGES_EACH) wire.hangUp();
          }
        },
        end: (error) => (error && count(`error ${error.code}`), done()),
      },
    );
    return wire;
  });
}
