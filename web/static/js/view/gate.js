// The gate: what is shown in place of the room to somebody who is not in it: why, and what they can do.

import { reasonInWords, t } from "../i18n.js";
import { byId, make } from "./dom.js";

/** Each kind's actions, the first of which is the usual one. */
const ACTIONS = {
  signIn: () => ["signIn"],
  ended: ({ guests }) => (guests === "None" ? ["signInAgain"] : ["signInAgain", "asGuest"]),
  refused: () => ["signInAgain", "otherAccount"],
  forbidden: ({ signIn }, account) => (account ? ["otherAccount", "tryAgain"] : signIn ? ["signIn", "tryAgain"] : ["tryAgain"]),
  // A proxy that signs people in does it when the page is loaded.
  closed: () => ["reload"],
};

export class Gate {
  #element = byId("gate");
  #actions;

  /** `actions`: a function for each name in ACTIONS. */
  constructor(actions) {
    this.#actions = actions;
  }

  get isOpen() {
    return !this.#element.hidden;
  }

  /** `words`: what has gone wrong, or for `refused` the server's own sentence. */
  show(kind, { account, access, words = "" }) {
    const isRefused = kind === "refused";
    byId("gate-title").textContent = t("gate")[kind].title;
    byId("gate-words").textContent = isRefused ? reasonInWords(words) : t("gate")[kind].words(account);
    this.complain(isRefused ? "" : words);
    const buttons = ACTIONS[kind](access, account).map((name, n) => make("button", { type: "button", className: n ? "plain" : "", onclick: this.#actions[name] }, t(name)));
    byId("gate-actions").replaceChildren(...buttons);
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    this.#setOpen(true);
    buttons[0].focus();
  }

  complain(words) {
    byId("gate-error").textContent = words;
  }

  hide() {
    if (this.isOpen) this.#setOpen(false);
  }

  #setOpen(isOpen) {
    this.#element.hidden = !isOpen;
    document.body.classList.toggle("out", isOpen);
  }
}
