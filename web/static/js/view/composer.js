// The composer: the text field for a new message. Enter sends, Shift+Enter breaks the line; the field grows with the text.

import { t } from "../i18n.js";
import { length } from "../text.js";
import { byId, isComposing, say } from "./dom.js";

/** At this many characters left, the composer shows how many are left. */
const WARN_AT = 200;
/** With more characters or lines than these the field has its full height, whatever its width. */
const FULL_AT = { characters: 2_000, lines: 10 };

export class Composer {
  limit = Infinity;
  #input = byId("message-input");
  #hint = byId("composer-hint");
  #actions;

  /** `actions`: `send(text)`, `typed()`, and `signIn()` for somebody who has to sign in to write. */
  constructor(actions) {
    this.#actions = actions;
    byId("sign-in-to-write").addEventListener("click", actions.signIn);
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#input.addEventListener("keydown", (event) => {
      // While an input method composes, Enter chooses a word.
      if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
      event.preventDefault();
      this.#send();
    });
    this.#input.addEventListener("input", () => {
      this.#resize();
      if (this.#input.value.trim()) actions.typed();
    });
  }

  /** What the person has written and not sent. */
  get text() {
    return this.#input.value;
  }

  set text(text) {
    this.#input.value = text;
    this.#resize();
  }

  /** Whether the person may write, and if not, whether they can sign in for it. What is written stays. */
  allow(mayWrite, offersSignIn) {
    byId("composer").hidden = !mayWrite;
    this.#hint.hidden = !mayWrite;
    byId("sign-in-to-write").hidden = mayWrite || !offersSignIn;
    byId("read-only").hidden = mayWrite || offersSignIn;
  }

  /** Puts the focus where the person writes, or signs in to write. */
  focus() {
    const button = byId("sign-in-to-write");
    (button.hidden ? this.#input : button).focus();
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
    const text = this.#input.value;
    const left = this.limit - length(text.trim());
    say(this.#hint, left < 0 ? t("tooMany", -left) : left < WARN_AT ? t("left", left) : t("hint"));
    this.#hint.classList.toggle("warn", left < WARN_AT);
    this.#input.ariaInvalid = String(left < 0);
    byId("send-btn").disabled = left < 0;
    // Measuring lays out the whole text twice: with each key, and 10,000 pasted lines take half a second.
    const isFull = text.length > FULL_AT.characters || hasMoreLines(text, FULL_AT.lines);
    this.#input.classList.toggle("full", isFull);
    this.#input.style.height = isFull ? "" : "auto";
    if (!isFull) this.#input.style.height = `${this.#input.scrollHeight}px`;
  }
}

function hasMoreLines(text, most) {
  let end = -1;
  for (let line = 0; line < most; line += 1) {
    end = text.indexOf("\n", end + 1);
    if (end < 0) return false;
  }
  return true;
}
