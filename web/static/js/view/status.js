// The header: the room's title, the state of the connection, this person's name; and the window's title.

import { codeInWords, t } from "../i18n.js";
import { initials } from "../text.js";
import { byId, nameNodes, say, tint } from "./dom.js";

const APP = "Papo";

/** Shows the state of the connection in words: `offline` when the browser itself has no network. */
export function showConnection(kind, code) {
  const state = kind === "reconnecting" && !navigator.onLine ? "offline" : kind;
  const words = state === "rejected" ? codeInWords(code) : t(state);
  byId("connection").dataset.state = state;
  document.body.classList.toggle("cut", kind !== "connected" && kind !== "draining");
  say(byId("connection-words"), words[0].toLocaleUpperCase() + words.slice(1));
}

export function showRoom(title) {
  byId("room-title").textContent = title;
}

/** Puts the unread count first, where a narrow tab still shows it. */
export function showTitle(room, unread) {
  const title = room ? `${room} · ${APP}` : APP;
  const words = unread ? `(${unread}) ${title}` : title;
  if (document.title !== words) document.title = words;
}

/** A guest's name, which the guest can change; somebody who can only read is in no need of one. */
export function showMe({ user, sender, verified, may }) {
  byId("name-btn").hidden = !user || verified || !may.includes("write");
  byId("name-words").replaceChildren(...nameNodes(user));
  const avatar = byId("name-avatar");
  avatar.textContent = initials(user ?? "");
  tint(avatar, sender);
}

/** The names, two at most. */
export function showTyping(names) {
  const [a, b] = names;
  const words = names.length === 0 ? "" : names.length === 1 ? t("typingOne", a) : names.length === 2 ? t("typingTwo", a, b) : t("typingMany");
  byId("typing").textContent = words;
}

/** The button that scrolls to the end, with the number of new messages. */
export function showNewest(away, unread) {
  const button = byId("newest-btn");
  button.hidden = !away;
  say(button, `${unread ? t("newestCount", unread) : t("newest")} ↓`);
  button.classList.toggle("fresh", unread > 0);
}
