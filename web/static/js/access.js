// Who may enter, as the server says it beside the page: what guests may do, and where people sign in. The server decides; the page only knows
// what to offer.

import { timeLimit } from "./browser.js";
import { PATH } from "./place.js";

const ANSWER_WITHIN = 5_000;
const GUESTS = new Set(["Write", "Read", "None"]);
const TOKENS = new Set(["Access", "Id"]);

/** A room that everybody may enter: what the page takes a room for until it knows better. */
export const OPEN = { guests: "Write", signIn: null, title: "" };

/** The room's rules; `undefined` if they cannot be read. */
export async function loadAccess() {
  try {
    const answer = await fetch(`${PATH}access.json`, { cache: "no-store", signal: timeLimit(ANSWER_WITHIN) });
    return answer.ok ? accessFrom(await answer.json()) : undefined;
  } catch {
    return undefined;
  }
}

/** Rules with the types on which the page relies. */
export function accessFrom({ guests, signIn, title }) {
  return { guests: GUESTS.has(guests) ? guests : OPEN.guests, signIn: signInFrom(signIn), title: typeof title === "string" ? title : "" };
}

/** How people sign in, or `null` if the page cannot offer it. */
export function signInFrom(value) {
  const { issuer, clientId, scopes, token = "Access", resource } = value ?? {};
  const isWhole = typeof issuer === "string" && typeof clientId === "string" && Array.isArray(scopes) && TOKENS.has(token);
  return isWhole ? { issuer, clientId, scopes: scopes.map(String), token, resource: typeof resource === "string" ? resource : undefined } : null;
}

/** Whether tokens of one room's sign-in are of use with the other. */
export function sameSignIn(one, other) {
  return Boolean(one && other) && ["issuer", "clientId", "token", "resource"].every((field) => one[field] === other[field]);
}
