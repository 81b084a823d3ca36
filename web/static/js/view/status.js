// The header: the room's title, the connection in words, who this person is; and the window's title.

import { codeInWords, t } from "../i18n.js";
import { hue, initials } from "../text.js";
import { byId, say } from "./dom.js";

const APP = "Papo";

/** Says in words how the connection is; what was lost to it is the browser's doing when that is offline. */
export function showConnection(kind, code) {
  const state = kind === "reconnecting" && !navigator.onLine ? "offline" : kind;
  const words = state === "refused" ? codeInWords(code) : t(state);
  byId("connection").dataset.state = state;
  document.body.classList.toggle("cut", kind !== "connected" && kind !== "draining");
  say(byId("connection-words"), words[0].toLocaleUpperCase() + words.slice(1));
}

export function showRoom(title) {
  byId("room-title").textContent = title;
}

/** The unread count first, where a narrow tab still shows it. */
export function showTitle(room, unread) {
  const title = room ? `${room} · ${APP}` : APP;
  const words = unread ? `(${unread}) ${title}` : title;
  if (document.title !== words) document.title = words;
}

export function showMe({ user, sender }) {
  byId("name-btn").hidden = !user;
  byId("name-words").textContent = user ?? "";
  const avatar = byId("name-avatar");
  avatar.textContent = initials(user ?? "");
  avatar.className = `avatar small hue-${hue(sender ?? "")}`;
}

/** The names, two at most. */
export function showTyping(names) {
  const [a, b] = names;
  const words = names.length === 0 ? "" : names.length === 1 ? t("typingOne", a) : names.length === 2 ? t("typingTwo", a, b) : t("typingMany");
  byId("typing").textContent = words;
}

/** The way to the end, with how much is new there. */
export function showNewest(away, unread) {
  const button = byId("newest-btn");
  button.hidden = !away;
  say(button, `${unread ? t("newestCount", unread) : t("newest")} ↓`);
  button.classList.toggle("fresh", unread > 0);
}
