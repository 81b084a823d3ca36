// Reads at the beginning of a long log, by clients that hang up (42).

import { randomBytes } from "node:crypto";

import { lasting, until } from "../../lib/wait.mjs";
import { Wire } from "../../lib/wire.mjs";
import { defaultOf } from "../lib/defaults.mjs";
import { codeOf, inLoops, listed } from "../lib/loops.mjs";

const MEMORY = 40 * 2 ** 20;
/** Share of a core that the server may take in a second when all attackers have gone. */
const IDLE = 0.25;

const ADDRESSES = ["127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6"];
/** Connections of an address that are open at once, of each of the two kinds. */
const AT_ONCE = 8;
/** Milliseconds for which one that resumes reads. */
const READS_FOR = 500;
/** `history` requests of a connection: its sender's burst. */
const REQUESTS = 10;
/** Milliseconds from its requests to its end. */
const HANGS_UP_AFTER = 100;

export const readers = ({ epoch, place }) => ADDRESSES.map((address) => ({ module: import.meta.url, name: "read", address, epoch, length: place.length }));

export default [
  {
    number: "42",
    title: "four addresses resume and request history at the beginning of a long log, then hang up",
    bound: () => `server: 4 reads at once, 100 wait, addresses take turns, 1,000 records each; ${defaultOf("history-per-second")} requests/s of a sender (at once ${defaultOf("history-burst")})`,
    quick: true,
    needsLongLog: true,
    // Reading costs the broker work, and the broker shares the processors of this machine with everything else. An idle machine of two
    // cores stays below 1 s.
    notices: { delivery: 2_000, scrollBack: 3_000 },
    attackers: readers,
    async judge({ place, row, expect }) {
      const { resumes = 0, requests = 0, records = 0, ...others } = row.counts.reduce(add);
      expect(resumes > 0 && requests > 0, "the attackers read nothing");
      const grown = row.server.peak - row.server.resident;
      expect(grown <= MEMORY, `the server's memory grew by ${mib(grown)} MiB`);
      await until("no read of the past runs or waits", async () => (await place.metric("papo_past_reads ")) + (await place.metric("papo_past_reads_waiting ")) === 0, 10).catch(({ message }) => expect(false, message));
      const read = await place.metric("papo_past_records_read_total");
      const before = place.processor();
      await lasting(1);
      const idle = place.processor() - before;
      const more = (await place.metric("papo_past_records_read_total")) - read;
      // The honest members go on, but do not read the past.
      expect(more === 0 && idle <= IDLE, `the server goes on reading when the attackers have gone: ${more} records, ${idle.toFixed(2)} s of processor time in a second`);
      const { seconds, ...rejected } = others;
      return `${resumes} resumes, ${requests} requests; ${records} records sent, ${read} read back; ${listed(rejected)}; memory + ${mib(grown)} MiB; ${(idle * 100).toFixed(0)} % processor after it`;
    },
  },
];

const add = (all, one) => Object.fromEntries([...new Set([...Object.keys(all), ...Object.keys(one)])].map((what) => [what, (all[what] ?? 0) + (one[what] ?? 0)]));
const mib = (bytes) => Math.round(bytes / 2 ** 20);

/** Resumes, and requests history, at the beginning of the log, and hangs up while the server reads. */
export async function read({ port, address, epoch, length }, { count, signal }) {
  const target = { port, localAddress: address };
  const token = () => randomBytes(12).toString("hex");
  const on = (wire, act, done) => ({
    open: () => act.open?.(),
    refused: (status) => count(`status ${status}`),
    packet(text) {
      if (text.startsWith("44")) (count(codeOf(text)), wire().hangUp());
      else act.packet(text);
    },
    end: () => done(),
  });
  const hangUpAfter = (wire, milliseconds) => setTimeout(() => wire.hangUp(), milliseconds);
  const resume = (done) => {
    const wire = new Wire(
      target,
      on(
        () => wire,
        {
          open: () => (wire.send(`40${JSON.stringify({ token: token(), epoch, offset: 0 })}`), hangUpAfter(wire, READS_FOR)),
          packet(text) {
            if (text.startsWith('42["history"')) (count("resumes"), count("records", text.split('"offset":').length - 1));
            else if (text.startsWith('42["message"')) count("records");
          },
        },
        done,
      ),
    );
    return wire;
  };
  const scroll = (done) => {
    const wire = new Wire(
      target,
      on(
        () => wire,
        {
          open: () => wire.send(`40${JSON.stringify({ token: token() })}`),
          packet(text) {
            if (text.startsWith('42["history"')) {
              for (let n = 0; n < REQUESTS; n++) wire.send(`42${n}["history",${JSON.stringify({ before: 1 + Math.floor((Math.random() * length) / 2), limit: 500 })}]`);
              count("requests", REQUESTS);
              hangUpAfter(wire, HANGS_UP_AFTER);
            } else if (text.startsWith("43") && text.includes('"ok":false')) count(codeOf(text));
          },
        },
        done,
      ),
    );
    return wire;
  };
  await Promise.all([inLoops(AT_ONCE, signal, resume), inLoops(AT_ONCE, signal, scroll)]);
}
