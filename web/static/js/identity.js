// Who this browser is in the room: a name, and a secret token from which the server derives the public `sender`.
//
// The browser stores the identity. A window can have an identity of its own until it is closed.

import { Channel, Stored } from "./browser.js";
import { randomId } from "./random.js";

/** Characters of the shortest token that the server accepts. */
const LEAST_TOKEN = 16;

const browser = new Stored("localStorage", "identity");
const thisWindow = new Stored("sessionStorage", "identity");

export class Identity {
  #current = stored(thisWindow) ?? stored(browser) ?? { token: randomId() };

  /** `undefined` until the person was asked for a name; `null` if the person gave none. */
  get name() {
    return this.#current.name;
  }

  get token() {
    return this.#current.token;
  }

  /** Takes a name (or `null`); with `somebodyElse`, also a new token, for this window only. */
  become(name, somebodyElse) {
    const own = somebodyElse || stored(thisWindow) !== null;
    this.#current = { name, token: somebodyElse ? randomId() : this.token };
    (own ? thisWindow : browser).set(this.#current);
  }
}

/** A stored identity that the server can accept, or `null`. */
function stored(place) {
  const { name, token } = place.get() ?? {};
  const hasName = name === undefined || name === null || typeof name === "string";
  return typeof token === "string" && token.length >= LEAST_TOKEN && hasName ? { name, token } : null;
}

/** Other windows of this browser that are in the room with the same token. */
export class Twins {
  #channel;
  #identity;
  #isGuest;

  /** Calls `found` when there is such a window. `isGuest()`: whether the token says who this window is in the room. */
  constructor(identity, isGuest, found) {
    this.#identity = identity;
    this.#isGuest = isGuest;
    this.#channel = new Channel("identity", (heard) => {
      if (heard?.token !== identity.token || !isGuest()) return;
      if (heard.question) this.#post(false);
      else found();
    });
  }

  /** Asks the other windows; only the newest window shows the notice. */
  ask() {
    if (this.#isGuest()) this.#post(true);
  }

  #post(question) {
    this.#channel.post({ token: this.#identity.token, question });
  }
}
