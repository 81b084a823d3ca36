// Honest members beside an attack, with the official client and its default settings: how long their messages take, how long a new one takes
// to enter, and how long it takes to scroll back. They have the address 127.0.0.1, which no attacker has.

import { once } from "node:events";

import { percentile } from "../../lib/checker.mjs";
import { Member } from "../../lib/member.mjs";
import { Traffic } from "../../lib/traffic.mjs";
import { lasting } from "../../lib/wait.mjs";

/** socket.io-client's own. */
const DEFAULTS = { reconnectionDelay: 1000, reconnectionDelayMax: 5000, timeout: 20_000 };
const SENDERS = ["Ana", "Rui", "Eva", "Ian"];
const READERS = 6;
/** Messages a second of all senders together. */
const RATE = 20;
const PAGE = 50;
/** Milliseconds that the last visit may take beyond the period that is measured. */
const PATIENCE = 2_000;
/** Seconds between two visits, and between two probes. */
const PAUSE = 0.3;

export class Honest {
  static async join(place) {
    const honest = new Honest();
    honest.place = place;
    const names = [...SENDERS, ...Array.from({ length: READERS }, (_, n) => `reader ${n + 1}`)];
    honest.members = await Promise.all(names.map((name) => Member.join(place.url, name, { texts: false, ...DEFAULTS })));
    honest.epoch = honest.members[0].epoch;
    honest.traffic = new Traffic(honest.members.slice(0, SENDERS.length), RATE);
    return honest;
  }

  /** Measures for so many seconds. Times are in milliseconds; that of something that did not happen is infinite. */
  async measure(seconds) {
    const begin = Date.now();
    const end = begin + seconds * 1000;
    const [visits, probes] = await Promise.all([this.#visit(end), this.#probe(end), lasting(seconds)]);
    const delivered = this.#delivered(begin, Date.now());
    return {
      delivery: delivered.length ? percentile(delivered, 0.99) : Infinity,
      enter: Math.max(...visits.map(({ enter }) => enter)),
      scrollBack: Math.max(...visits.map(({ scrollBack }) => scrollBack)),
      probe: Math.max(...probes),
      visits: visits.length,
      refused: visits.flatMap(({ refused }) => refused),
    };
  }

  /** Times from sending to showing, of messages sent in a period. */
  #delivered(begin, end) {
    const sent = new Map(this.members.flatMap((member) => member.sent.filter(({ at }) => at >= begin && at < end).map(({ id, at }) => [id, at])));
    return this.members.flatMap(({ shown }) => shown.filter(({ id }) => sent.has(id)).map(({ id, at }) => at - sent.get(id)));
  }

  /** New members enter one after the other, and each scrolls back once. */
  async #visit(end) {
    const visits = [];
    do {
      visits.push(await this.#visitOnce(end));
      await lasting(PAUSE);
    } while (Date.now() < end);
    return visits;
  }

  async #visitOnce(end) {
    const began = performance.now();
    const limit = Math.max(end - Date.now(), 0) + PATIENCE;
    const visitor = new Member(this.place.url, {}, { texts: false, ...DEFAULTS });
    const visit = { enter: Infinity, scrollBack: Infinity };
    try {
      await once(visitor.socket, "history", { signal: AbortSignal.timeout(limit) });
      visit.enter = performance.now() - began;
      visit.scrollBack = await scrollBack(visitor, this.#before(visitor), end);
    } catch {
      // It has not entered, or got no page, in time.
    }
    visit.refused = [...visitor.closes];
    visitor.leave();
    return visit;
  }

  /** An offset whose page is the past of a long log, and otherwise in memory. */
  #before({ offset = 0 }) {
    const { length } = this.place;
    return length ? Math.floor(PAGE + (Math.random() * length) / 2) : Math.max(1, offset);
  }

  /** Times of the answers of the probes. */
  async #probe(end) {
    const times = [];
    do {
      for (const probe of ["livez", "readyz"]) {
        const began = performance.now();
        const answer = await fetch(`http://127.0.0.1:${this.place.adminPort}/${probe}`, { signal: AbortSignal.timeout(10_000) }).catch(() => null);
        times.push(answer?.ok ? performance.now() - began : Infinity);
      }
      await lasting(PAUSE);
    } while (Date.now() < end);
    return times;
  }

  leave() {
    for (const member of this.members) member.leave();
  }
}

/** Requests a page, again after a second if the server asks for it, as a client must. */
async function scrollBack(visitor, before, end) {
  const began = performance.now();
  for (;;) {
    const page = await visitor.ask("history", { before, limit: PAGE });
    if (page.ok) return performance.now() - began;
    visitor.closes.push(page.code);
    if (Date.now() > end) return Infinity;
    await lasting(1);
  }
}
