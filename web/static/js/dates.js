// Days and times in the browser's locale.

import { locale } from "./i18n.js";

const time = new Intl.DateTimeFormat(locale, { timeStyle: "short" });
const full = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
const thisYear = new Intl.DateTimeFormat(locale, { weekday: "long", day: "numeric", month: "long" });
const otherYear = new Intl.DateTimeFormat(locale, { day: "numeric", month: "long", year: "numeric" });

export const timeOfDay = (at) => time.format(at);
export const fullDate = (at) => full.format(at);

/** The calendar day of a moment, as a number that is the same all day. */
export function dayOf(at) {
  const date = new Date(at);
  return Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / 86_400_000;
}

/** Today, yesterday, or the date. */
export function dayInWords(at, now = Date.now()) {
  const ago = dayOf(now) - dayOf(at);
  const sameYear = new Date(at).getFullYear() === new Date(now).getFullYear();
  const words = ago === 0 || ago === 1 ? relative.format(-ago, "day") : (sameYear ? thisYear : otherYear).format(at);
  return words[0].toLocaleUpperCase(locale) + words.slice(1);
}

/** Calls `changed` whenever a new day has begun. */
export function everyMidnight(changed) {
  const tomorrow = new Date();
  tomorrow.setHours(24, 0, 1, 0);
  setTimeout(() => {
    changed();
    everyMidnight(changed);
  }, tomorrow - Date.now());
}
