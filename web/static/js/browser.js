// The browser's interfaces that may be missing or forbidden: by blocked cookies, a sandboxed frame, a policy, or the browser's age. They are
// used here, each under a guard, and in no other module. The page works without any of them.

import { ofRoom } from "./place.js";

/** One value of this room in `localStorage` or `sessionStorage`, as JSON. */
export class Stored {
  #area;
  #key;

  constructor(area, key) {
    this.#area = area;
    this.#key = ofRoom(key);
  }

  /** The value; `null` if there is none that can be read. Anybody with the browser can have written it. */
  get() {
    try {
      return JSON.parse(window[this.#area].getItem(this.#key));
    } catch {
      return null;
    }
  }

  set(value) {
    try {
      if (value === null) window[this.#area].removeItem(this.#key);
      else window[this.#area].setItem(this.#key, JSON.stringify(value));
    } catch {
      // The page works without the stored value.
    }
  }
}

/** Messages between the windows of this room in this browser. */
export class Channel {
  #channel = null;

  /** Calls `heard(value)` for each message of another window. */
  constructor(name, heard) {
    try {
      this.#channel = new BroadcastChannel(ofRoom(name));
      this.#channel.onmessage = ({ data }) => heard(data);
    } catch {
      // The windows do not know of each other.
    }
  }

  post(value) {
    try {
      this.#channel?.postMessage(value);
    } catch {
      // As above.
    }
  }
}

/** The browser's language, or "" if `Intl` would not accept it. */
export function language() {
  try {
    return Intl.getCanonicalLocales(navigator.language)[0] ?? "";
  } catch {
    return "";
  }
}

/** A signal that ends a request after so many milliseconds. */
export function timeLimit(milliseconds) {
  if (AbortSignal.timeout) return AbortSignal.timeout(milliseconds);
  const controller = new AbortController();
  setTimeout(() => controller.abort(), milliseconds);
  return controller.signal;
}

/** Whether the browser lets the page hash, which a sign-in needs: on secure origins only. */
export const canHash = () => Boolean(globalThis.crypto?.subtle);

/** Calls `changed` when the size of an element has changed. */
export function onResize(element, changed) {
  try {
    new ResizeObserver(changed).observe(element);
  } catch {
    window.addEventListener("resize", changed);
  }
}
