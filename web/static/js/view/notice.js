// The notice above the conversation that a sign-in has failed, ends soon, or has ended.

import { t } from "../i18n.js";
import { byId } from "./dom.js";

export class Notice {
  #element = byId("notice");
  #kind = null;

  /** The button of the notice calls `signIn()`. */
  constructor(signIn) {
    byId("notice-action").addEventListener("click", signIn);
    byId("notice-dismiss").addEventListener("click", () => this.hide());
  }

  /** `kind`: "expiring", "ended", or "problem" with its words. */
  show(kind, words = t(kind)) {
    this.#kind = kind;
    byId("notice-action").textContent = t(kind === "problem" ? "signIn" : "signInAgain");
    byId("notice-dismiss").hidden = kind === "ended";
    this.#element.hidden = false;
    byId("notice-words").textContent = words;
  }

  /** Hides it, if it is of one of these kinds; without kinds, any. */
  hide(...kinds) {
    if (kinds.length && !kinds.includes(this.#kind)) return;
    this.#element.hidden = true;
    byId("notice-words").textContent = "";
  }
}
