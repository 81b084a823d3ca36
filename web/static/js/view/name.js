// The dialog that asks for a name: at the first visit, on request, and when the server rejects the name.

import { codeInWords, reasonInWords, t } from "../i18n.js";
import { length } from "../text.js";
import { byId } from "./dom.js";

export class NameDialog {
  #dialog = byId("name-dialog");
  #input = byId("name-input");
  #chosen;

  /** `chosen(name, somebodyElse)` gets the answer; `name` is `null` when the person gives none. The person can `signIn()` instead. */
  constructor(chosen, signIn) {
    this.#chosen = chosen;
    byId("name-sign-in").addEventListener("click", () => {
      this.#dialog.close();
      signIn();
    });
    byId("name-form").addEventListener("submit", (event) => this.#submit(event));
    byId("name-cancel").addEventListener("click", () => this.#dismiss());
    this.#dialog.addEventListener("cancel", () => this.#dismiss());
    this.#input.addEventListener("input", () => this.#complain(""));
  }

  /**
   * `name` is `undefined` at the first visit; `code` and `reason` are why the server rejected the last one. `offersSignIn`: whether the person
   * can sign in instead. `words`: why that has failed.
   */
  ask({ name, limit, code, reason, words = "", offersSignIn = false, somebodyElse = false }) {
    const first = name === undefined;
    this.first = first;
    this.limit = limit;
    byId("somebody-else-row").hidden = first;
    byId("somebody-else").checked = somebodyElse;
    byId("name-cancel").textContent = first ? t("noName") : t("cancel");
    byId("name-ok").textContent = first ? t("enter") : t("save");
    byId("name-sign-in").hidden = !offersSignIn;
    this.#input.value = somebodyElse ? "" : (name ?? "");
    this.#complain(code ? whyRejected(code, reason) : words);
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#input.focus();
    this.#input.select();
  }

  #submit(event) {
    event.preventDefault();
    const name = this.#input.value.trim();
    if (length(name) > this.limit) return this.#complain(t("nameTooLong", this.limit));
    if (!name) return this.#input.focus();
    this.#dialog.close();
    this.#chosen(name, byId("somebody-else").checked);
  }

  #dismiss() {
    this.#dialog.close();
    if (this.first) this.#chosen(null, false);
  }

  #complain(words) {
    byId("name-error").textContent = words;
    this.#input.ariaInvalid = String(Boolean(words));
  }
}

function whyRejected(code, reason) {
  const words = [codeInWords(code), reasonInWords(reason)].filter(Boolean).join(": ");
  return `${words[0].toLocaleUpperCase()}${words.slice(1)}.`;
}
