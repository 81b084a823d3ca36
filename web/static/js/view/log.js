// The log as seen: keeps the elements of `#messages` equal to the rows, and what the person reads where it is.
//
// The browser's own scroll anchoring is off (style sheet): it does nothing at the very top, and not every browser has it.

import { dayInWords } from "../dates.js";
import { t } from "../i18n.js";
import { make } from "./dom.js";
import { messageElement, updateMessage } from "./message.js";

/** Nearer to the end than this, in pixels, is at the end. */
const AT_END = 48;
/** Nearer to an edge of what is loaded than this, more is loaded. */
const NEAR = 500;

const EDGES = { unknown: "", more: "", loading: t("loading"), beginning: t("beginning"), empty: t("empty") };

export class LogView {
  #list;
  #actions;
  #elements = new Map();
  #stuck = true;
  #height = 0;
  #reading = null;

  /** `actions`: `retry(id)`, `discard(id)`, and `scrolled()` when the place in the log has changed. */
  constructor(list, actions) {
    this.#list = list;
    this.#actions = actions;
    list.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#resized()).observe(list);
  }

  /** The end of what is loaded is visible. */
  get atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#list;
    return scrollHeight - scrollTop - clientHeight < AT_END;
  }

  get nearTop() {
    return this.#list.scrollTop < NEAR;
  }

  get nearEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#list;
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  /** Shows the rows. What the person reads stays where it is; at the end, the end stays in sight. */
  show(rows, { connected, toEnd = false }) {
    const stuck = toEnd || this.#stillStuck();
    const reading = stuck ? null : this.#firstVisible();
    const older = rows.length > 1 && this.#list.childElementCount > 1 && !this.#elements.has(rows[1].key);
    // A page of the past is no news to be read aloud.
    this.#list.ariaBusy = String(older || this.#elements.size === 0);
    this.#place(rows, connected);
    if (stuck) this.toEnd();
    else this.#restore(reading);
    this.#list.ariaBusy = "false";
  }

  toEnd() {
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#stuck = true;
    this.#height = this.#list.clientHeight;
  }

  #place(rows, connected) {
    const keys = new Set(rows.map(({ key }) => key));
    for (const [key, { element }] of this.#elements) {
      if (keys.has(key)) continue;
      element.remove();
      this.#elements.delete(key);
    }
    let next = this.#list.firstChild;
    for (const row of rows) {
      const element = this.#element(row, connected);
      if (element === next) next = next.nextSibling;
      else this.#list.insertBefore(element, next);
    }
  }

  /** The row's element, made once and changed only when the row says something else. */
  #element(row, connected) {
    const { kind, key, first, edge, message } = row;
    const says = [first, edge, message?.state, message?.code, message?.at, connected || message?.state !== "pending", kind === "day" && dayInWords(row.at)].join();
    const known = this.#elements.get(key);
    if (known?.says === says) return known.element;
    const element = known?.element ?? (kind === "message" ? messageElement(row) : make("div"));
    if (kind === "message") updateMessage(element, row, connected, this.#actions);
    else fill(element, row);
    this.#elements.set(key, { element, says });
    return element;
  }

  /** A list that only became lower (a keyboard opened) has not been scrolled by anybody. */
  #stillStuck() {
    return this.atEnd || (this.#stuck && this.#list.clientHeight !== this.#height);
  }

  #scrolled() {
    if (this.#list.clientHeight === this.#height) this.#stuck = this.atEnd;
    this.#reading = this.#stuck ? null : this.#firstVisible();
    this.#actions.scrolled();
  }

  #resized() {
    if (this.#stuck) this.toEnd();
    else this.#restore(this.#reading);
    this.#height = this.#list.clientHeight;
    this.#actions.scrolled();
  }

  #firstVisible() {
    const top = this.#list.getBoundingClientRect().top;
    for (const element of this.#list.querySelectorAll(".message")) {
      const box = element.getBoundingClientRect();
      if (box.bottom > top) return { element, top: box.top - top };
    }
    return null;
  }

  #restore(reading) {
    if (!reading?.element.isConnected) return;
    const top = reading.element.getBoundingClientRect().top - this.#list.getBoundingClientRect().top;
    this.#list.scrollTop += top - reading.top;
  }
}

function fill(element, { kind, edge, at, notice }) {
  element.className = kind === "edge" ? `edge ${edge}` : kind;
  const words = { edge: () => EDGES[edge], day: () => dayInWords(at), notice: () => t(notice), marker: () => t("newMessages") }[kind]();
  element.replaceChildren(make("span", {}, words));
}
