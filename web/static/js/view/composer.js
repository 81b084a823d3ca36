// The composer: the text field for a new message. Enter sends, Shift+Enter breaks the line; the field grows with the text.

import { t } from "../i18n.js";
import { length } from "../text.js";
import { byId } from "./dom.js";

/** At this many characters left, the composer shows how many are left. */
const WARN_AT = 200;

export class Composer {
  limit = Infinity;
  #input = byId("message-input");
  #hint = byId("composer-hint");
  #actions;

  /** `actions`: `send(text)` and `typed()`. */
  constructor(actions) {
    this.#actions = actions;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#input.addEventListener("keydown", (event) => {
      // While an input method composes, Enter chooses a word.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    this.#input.addEventListener("input", () => {
      this.#resize();
      if (this.#input.value.trim()) actions.typed();
    });
  }

  focus() {
    this.#input.focus();
  }

  #send() {
    const text = this.#input.value.trim();
    this.focus();
    if (!text || length(text) > this.limit) return;
    this.#input.value = "";
    this.#resize();
    this.#actions.send(text);
  }

  #resize() {
    const left = this.limit - length(this.#input.value.trim());
    this.#hint.textContent = left < 0 ? t("tooMany", -left) : left < WARN_AT ? t("left", left) : t("hint");
    this.#hint.classList.toggle("warn", left < WARN_AT);
    this.#input.ariaInvalid = String(left < 0);
    byId("send-btn").disabled = left < 0;
    this.#input.style.height = "auto";
    this.#input.style.height = `${this.#input.scrollHeight}px`;
  }
}
