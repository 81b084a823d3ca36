// Why a connection is not opened: a browser does not tell a page how its WebSocket was answered, so the page asks over HTTP.

import { timeLimit } from "./browser.js";
import { SOCKET_PATH } from "./place.js";

const ANSWER_WITHIN = 5_000;
/**
 * The codes of HTTP statuses with which the server rejects every request that it would reject for its origin or host, and with which a proxy in
 * front of it asks to sign in.
 */
const CODES = { 401: "proxy_sign_in", 403: "forbidden_origin", 421: "unknown_host" };

/** The code of the rejection; `undefined` if the server cannot be reached, or does not reject the page. */
export async function rejectionCode() {
  try {
    // A browser sends `Origin` to the page's own server with POST, not with GET, and may send `null` under the page's referrer policy. No
    // session has this id, so the request opens none.
    const url = `${SOCKET_PATH}?EIO=4&transport=polling&sid=none`;
    const { status } = await fetch(url, { method: "POST", body: "", referrerPolicy: "same-origin", signal: timeLimit(ANSWER_WITHIN) });
    return CODES[status];
  } catch {
    return undefined;
  }
}
