// One message as an element: bubble, author, text with links, time and state.

import { fullDate, timeOfDay } from "../dates.js";
import { codeInWords, t } from "../i18n.js";
import { initials, segments } from "../text.js";
import { make, nameNodes, tint } from "./dom.js";

/** A new element; `updateMessage` completes it. */
export function messageElement({ message }) {
  const author = tint(make("span", { className: "author" }), message.sender);
  const text = make("bdi", { className: "text" }, ...segments(message.text).map(segment));
  const foot = make("div", { className: "meta" });
  const avatar = tint(make("span", { className: "avatar", ariaHidden: "true" }, initials(message.user ?? "")), message.sender);
  const element = make("article", {}, avatar, make("div", { className: "bubble" }, author, text, foot));
  element.dataset.id = message.id;
  return element;
}

/** Updates what may change: whether the message begins a group, whether guests are told apart, and its state. */
export function updateMessage(element, { message, first, guest }, connected, actions) {
  element.className = ["message", message.own && "own", first && "first", message.state === "failed" && "failed"].filter(Boolean).join(" ");
  element.dataset.state = message.state ?? "received";
  element.querySelector(".author").replaceChildren(...nameNodes(message.user), ...(guest ? [make("span", { className: "guest" }, t("guest"))] : []));
  element.querySelector(".meta").replaceChildren(...time(message.at), ...state(message, connected, actions));
}

function segment({ text, href }) {
  return href ? make("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, text) : text;
}

function time(at) {
  return at === null ? [] : [make("time", { dateTime: new Date(at).toISOString(), title: fullDate(at) }, timeOfDay(at))];
}

function state({ state, id, code }, connected, actions) {
  if (!state) return [];
  if (state === "failed") {
    const button = (key, action) => make("button", { type: "button", className: key, onclick: () => action(id) }, t(key));
    const words = make("span", { className: "state" }, `${t("failed")}: ${codeInWords(code)}`);
    return [words, button("retry", actions.retry), button("discard", actions.discard)];
  }
  const words = state === "pending" && !connected ? t("waiting") : t(state);
  // A waiting message shows its state as text. Any other has a sign, and text for screen readers only.
  const quiet = state === "sent" || connected;
  return [make("span", { className: quiet ? "state visually-hidden" : "state" }, words), make("span", { className: "sign", ariaHidden: "true", title: words })];
}
