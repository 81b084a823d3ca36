// File descriptors run out (45).

import { lasting } from "../../lib/wait.mjs";
import { Wire } from "../../lib/wire.mjs";
import { codeOf, listed } from "../lib/loops.mjs";

/** The hard limit of descriptors; the server keeps 256 of them for everything but clients. */
const DESCRIPTORS = 400;
const RESERVED = 256;
/** An address gets 20 places: it takes several to fill the server. */
const ADDRESSES = Array.from({ length: 20 }, (_, n) => `127.0.0.${n + 100}`);
/** Connections that each address opens, and seconds between two of them. */
const EACH = 20;
const PAUSE = 0.2;

export default [
  {
    number: "45",
    title: `400 members of 20 addresses for a server with ${DESCRIPTORS} descriptors`,
    bound: "as many sockets as the descriptors allow, less 256; others get 503",
    quick: true,
    descriptors: DESCRIPTORS,
    // There is no place for a new member until the attackers go. Those that are there must notice nothing.
    notices: { enter: null, scrollBack: null },
    attackers: () => [{ module: import.meta.url, name: "stay", addresses: ADDRESSES }],
    judge({ place, row: { counts: [counts], beside, rejections }, expect }) {
      const { seconds, tried, joined = 0, ...others } = counts;
      expect(joined > 0 && joined <= DESCRIPTORS - RESERVED, `${joined} members joined`);
      expect((others["status 503"] ?? 0) > 0, `nobody was told that the server is full: ${JSON.stringify(counts)}`);
      expect((rejections.server_full ?? 0) > 0, `papo_rejections_total has no server_full: ${JSON.stringify(rejections)}`);
      expect(/limit of file descriptors/.test(place.output()), "the log has no line about file descriptors");
      return `${tried} tried, ${joined} joined; ${listed(others)}; probes within ${beside.probe.toFixed(0)} ms`;
    },
  },
];

/** Joins from each address as often as it can, and stays. */
export async function stay({ port, addresses }, { count, signal }) {
  const open = new Set();
  const join = (address) => {
    count("tried");
    const wire = new Wire(
      { port, localAddress: address },
      {
        open: () => wire.send("40"),
        refused: (status) => count(`status ${status}`),
        packet(text) {
          if (text === "2") wire.send("3");
          else if (text.startsWith('42["history"')) count("joined");
          else if (text.startsWith("44")) count(codeOf(text));
        },
        end: () => open.delete(wire),
      },
    );
    open.add(wire);
  };
  for (let n = 0; n < EACH && !signal.aborted; n++) {
    for (const address of addresses) join(address);
    await lasting(PAUSE);
  }
  if (!signal.aborted) await new Promise((stopped) => signal.addEventListener("abort", stopped));
  for (const wire of open) wire.hangUp();
}
