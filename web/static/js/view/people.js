// The list of members: the count in the header, and the names beside the conversation (on a phone: above it, after a tap).

import { locale, t } from "../i18n.js";
import { initials } from "../text.js";
import { byId, isComposing, make, nameNodes, tint } from "./dom.js";

const collator = new Intl.Collator(locale);

export class PeopleView {
  constructor() {
    const button = byId("people-btn");
    const open = (open) => {
      byId("people").classList.toggle("open", open);
      button.ariaExpanded = String(open);
    };
    button.addEventListener("click", () => open(button.ariaExpanded !== "true"));
    document.addEventListener("keydown", (event) => event.key === "Escape" && !isComposing(event) && open(false));
    document.addEventListener("click", ({ target }) => target.closest("#people, #people-btn") || open(false));
  }

  /** `senderOf(name)` returns the sender last seen with this name, which determines the colour, or `undefined`. */
  show(presence, me, senderOf) {
    byId("people-count").textContent = presence.count;
    const words = t("people", presence.count);
    byId("people-words").textContent = words;
    byId("people-btn").title = words;
    byId("people-title").textContent = words;
    const names = [...presence.names].sort((a, b) => (b === me.user) - (a === me.user) || collator.compare(a, b));
    byId("people-list").replaceChildren(...names.map((name) => person(name, name === me.user, senderOf(name))));
    byId("people-rest").textContent = names.length && presence.rest ? t("rest", presence.rest) : "";
  }
}

function person(name, isMe, sender) {
  const avatar = make("span", { className: `avatar small ${sender ? "" : "plain"}`, ariaHidden: "true" }, initials(name));
  if (sender) tint(avatar, sender);
  const words = make("span", { className: "person-name" }, ...nameNodes(name));
  return make("li", {}, avatar, words, ...(isMe ? [make("span", { className: "you" }, t("you"))] : []));
}
