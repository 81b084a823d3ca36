// Names that imitate the name of somebody who is present (46).

import { Member } from "../../lib/member.mjs";
import { until } from "../../lib/wait.mjs";

/** The honest members Ana and Ian are present. */
const IMITATIONS = {
  Ana: [
    "Ana", "ana", " Ana ", "Аna", "Anа", "Аnа", "Ｏna".replace("Ｏ", "Ａ"), "𝐀na", "Ana\u061c", "A\u034fna", "\u115fAna", "Ana\uffa0", "Ana\u2800", "Ana\u200b", "Ana\u200d", "Ana\u00ad",
    "Ana\u{e0041}", "Ana\ufeff", "\u202eanA", "Ana\ufe0f", "An\u0430\u0300\u0301\u0302", "Ana\u3164", "A\u180bna", "Ana\u2060",
  ],
  Ian: ["lan", "Iаn", "1an", "Ιan", "ꓲan"],
};
/** The mark of difference, behind a name. */
const MARK = / #[0-9a-f]{4,}$/;
/** Everything that the accepted names may look like is one of these two with a mark. */
const FROM = ["127.0.0.11", "127.0.0.12"];

export default [
  {
    number: "46",
    title: `${Object.values(IMITATIONS).flat().length} names that imitate the names of members who are present`,
    bound: "invisible and control characters: `invalid_name`; same skeleton (UTS #39): a mark of four characters of the sender",
    quick: true,
    run: imitate,
    judge({ row: { counts: [{ rejected, marked, others }] }, expect }) {
      expect(others.length === 0, `accepted without a mark: ${JSON.stringify(others)}`);
      return `${rejected} × \`invalid_name\`, ${marked} with a mark`;
    },
  },
];

/** Joins with each name, and says something: the name that others are shown must be different. */
async function imitate({ place, honest }) {
  const result = { rejected: 0, marked: 0, others: [] };
  const watcher = await Member.join(place.url, "watcher");
  for (const [n, name] of Object.values(IMITATIONS).flat().entries()) {
    const imitator = new Member(place.url, name, { reconnection: false, localAddress: FROM[n % FROM.length] });
    try {
      await until(`'${name}' is accepted or rejected`, () => imitator.epoch || imitator.closes.length > 0, 20);
      if (!imitator.epoch) {
        if (imitator.closes.includes("invalid_name")) result.rejected += 1;
        else result.others.push([name, ...imitator.closes]);
        continue;
      }
      const text = `I am number ${n}`;
      await imitator.send(text);
      const { user } = await watcher.sees(text);
      if (MARK.test(user)) result.marked += 1;
      else result.others.push([name, user]);
    } finally {
      imitator.leave();
    }
  }
  watcher.leave();
  honest.members.push(watcher);
  return result;
}
