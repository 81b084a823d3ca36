// Values that the browser stores. If storage is forbidden or full, the page works without it.

import { ofRoom } from "./place.js";

/** One value of this room in `localStorage` or `sessionStorage`, as JSON. */
export class Stored {
  #area;
  #key;

  constructor(area, key) {
    this.#area = area;
    this.#key = ofRoom(key);
  }

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
