// The log view: keeps the elements of `#messages` equal to the rows, and keeps what the person reads in place.
//
// The style sheet turns off the browser's scroll anchoring, because it does not work at the top, and not every browser has it.

import { onResize } from "../browser.js";
import { dayInWords } from "../dates.js";
import { t } from "../i18n.js";
import { make } from "./dom.js";
import { messageElement, updateMessage } from "./message.js";

/** At this distance from the end, in pixels, the view counts as at the end. */
const AT_END = 48;
/** At this distance from either end of the loaded messages, in pixels, more are loaded. */
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
    onResize(list, () => this.#resized());
  }

  /** Whether the end of the loaded messages is visible. */
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

  /** Shows the rows. What the person reads stays in place; a view at the end stays at the end. */
  show(rows, { connected, toEnd = false }) {
    const stuck = toEnd || this.#stillStuck();
    const reading = stuck ? null : this.#firstVisible();
    const older = rows.length > 1 && this.#list.childElementCount > 1 && !this.#elements.has(rows[1].key);
    // Screen readers do not read a page of history aloud.
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

  /** The row's element: created once, and changed only when the row changes. */
  #element(row, connected) {
    const { kind, key, first, guest, edge, message } = row;
    const says = [first, guest, edge, message?.state, message?.code, message?.at, connected || message?.state !== "pending", kind === "day" && dayInWords(row.at)].join();
    const known = this.#elements.get(key);
    if (known?.says === says) return known.element;
    const element = this.#drawn(row, known?.element, connected);
    this.#elements.set(key, { element, says });
    return element;
  }

  /** Draws a row. A row that cannot be drawn says so, and the others are not affected. */
  #drawn(row, known, connected) {
    try {
      const element = known ?? (row.kind === "message" ? messageElement(row) : make("div"));
      if (row.kind === "message") updateMessage(element, row, connected, this.#actions);
      else fill(element, row);
      return element;
    } catch (error) {
      console.error(`cannot show ${row.key}`, error);
      const element = known ?? make("div");
      element.className = "notice";
      element.replaceChildren(make("span", {}, t("unreadable")));
      return element;
    }
  }

  /** Ignores scroll events of a list that only became lower, as when a keyboard opens. */
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
