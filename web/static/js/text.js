// Text as the page shows it: links, initials, colours. Pure, and never HTML.

const LINK = /\bhttps?:\/\/[^\s<>"'`\u00ab\u00bb\u201c\u201d\u2018\u2019]+/giu;
/** Characters that end a sentence, not an address. */
const TRAILING = ".,;:!?…*_~";
const BRACKETS = { ")": "(", "]": "[", "}": "{" };

/** Splits text into `{ text }` and `{ text, href }`; joined, the texts are the original. Only http and https become links. */
export function segments(text) {
  const parts = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(LINK)) {
    const shown = address(found);
    const href = hrefOf(shown);
    if (!href) continue;
    if (index > end) parts.push({ text: text.slice(end, index) });
    parts.push({ text: shown, href });
    end = index + shown.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end) });
  return parts;
}

function hrefOf(shown) {
  try {
    return new URL(shown).href;
  } catch {
    return null;
  }
}

/**
 * The address without the punctuation around it, but with its own brackets, as in .../Papo_(chat). It takes time in proportion to its
 * length: a message can be one address with thousands of brackets.
 */
function address(found) {
  const count = (character) => found.split(character).length;
  const unbalanced = {};
  for (const [close, open] of Object.entries(BRACKETS)) unbalanced[close] = count(close) - count(open);
  for (let end = found.length; ; end -= 1) {
    const last = found[end - 1];
    if (unbalanced[last] > 0) unbalanced[last] -= 1;
    else if (!TRAILING.includes(last)) return found.slice(0, end);
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
  let count = text.length;
  for (let at = 1; at < text.length; at += 1) {
    const isPair = (text.charCodeAt(at) & 0xfc00) === 0xdc00 && (text.charCodeAt(at - 1) & 0xfc00) === 0xd800;
    if (isPair) count -= 1;
  }
  return count;
}
