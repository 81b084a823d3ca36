// Text as the page shows it: links, initials, colours. Pure, and never HTML.

const LINK = /\bhttps?:\/\/[^\s<>"'`\u00ab\u00bb\u201c\u201d\u2018\u2019]+/giu;
/** Characters that end a sentence, not an address. */
const TRAILING = /[.,;:!?…*_~]+$/u;
const BRACKETS = { ")": "(", "]": "[", "}": "{" };

/** Splits text into `{ text }` and `{ text, href }`; joined, the texts are the original. Only http and https become links. */
export function segments(text) {
  const parts = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(LINK)) {
    const shown = address(found);
    const href = URL.canParse(shown) ? new URL(shown).href : null;
    if (!href) continue;
    if (index > end) parts.push({ text: text.slice(end, index) });
    parts.push({ text: shown, href });
    end = index + shown.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end) });
  return parts;
}

/** The address without the punctuation around it, but with its own brackets, as in .../Papo_(chat) */
function address(found) {
  for (let shown = found; ; ) {
    const bare = shown.replace(TRAILING, "");
    const open = BRACKETS[bare.at(-1)];
    const unbalanced = open && bare.split(bare.at(-1)).length > bare.split(open).length;
    const next = unbalanced ? bare.slice(0, -1) : bare;
    if (next === shown) return shown;
    shown = next;
  }
}

/** One or two letters for an avatar. */
export function initials(name) {
  const words = name.split(/[\s._-]+/u).filter((word) => /^[\p{L}\p{N}]/u.test(word));
  const chosen = words.length > 1 ? [words[0], words.at(-1)] : words;
  const letters = chosen.map((word) => [...word][0]).join("");
  return (letters || [...name.trim()][0] || "?").toLocaleUpperCase();
}

/** The sender's hue in degrees: the same in every window. */
export function hue(sender) {
  let hash = 0;
  for (const character of sender) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return hash % 360;
}

/** A name without its mark, and the mark (or ""): the server puts it behind a name that looks like that of another member. */
export function splitMark(user) {
  const mark = / #[0-9a-f]{4,24}$/.exec(user)?.[0] ?? "";
  return { name: user.slice(0, user.length - mark.length), mark };
}

/** The length as the server counts it, in Unicode characters. */
export function length(text) {
  return [...text].length;
}
