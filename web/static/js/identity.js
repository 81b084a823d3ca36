// Who this browser is in the room: a name, and a secret token from which the server derives the public `sender`.
//
// The browser stores the identity. A window can have an identity of its own until it is closed.

import { ofRoom } from "./place.js";
import { randomId } from "./random.js";
import { Stored } from "./store.js";

const browser = new Stored("localStorage", "identity");
const thisWindow = new Stored("sessionStorage", "identity");

export class Identity {
  #current = thisWindow.get() ?? browser.get() ?? { token: randomId() };

  /** `undefined` until the person was asked for a name; `null` if the person gave none. */
  get name() {
    return this.#current.name;
  }

  get token() {
    return this.#current.token;
  }

  /** Takes a name (or `null`); with `somebodyElse`, also a new token, for this window only. */
  become(name, somebodyElse) {
    const own = somebodyElse || thisWindow.get() !== null;
    this.#current = { name, token: somebodyElse ? randomId() : this.token };
    (own ? thisWindow : browser).set(this.#current);
  }
}

/** Other windows of this browser that are in the room with the same token. */
export class Twins {
  #channel = "BroadcastChannel" in window ? new BroadcastChannel(ofRoom("identity")) : null;
  #identity;

  /** Calls `found` when there is such a window. */
  constructor(identity, found) {
    this.#identity = identity;
    if (!this.#channel) return;
    this.#channel.onmessage = ({ data: { token, question } }) => {
      if (token !== identity.token) return;
      if (question) this.#post(false);
      else found();
    };
  }

  /** Asks the other windows; only the newest window shows the notice. */
  ask() {
    this.#post(true);
  }

  #post(question) {
    this.#channel?.postMessage({ token: this.#identity.token, question });
  }
}
