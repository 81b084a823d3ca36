// Elements without markup: text never becomes HTML.

import { hue, splitMark } from "../text.js";

/** An element with properties, and children that are nodes or strings. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Gives an element the sender's colour: through the object model, because the page's policy allows no style attributes. */
export function tint(element, sender) {
  element.style.setProperty("--hue", hue(sender ?? ""));
  return element;
}

/** A name's nodes: its mark is set apart, and is not cut off with a long name. */
export function nameNodes(user) {
  const { name, mark } = splitMark(user ?? "");
  const words = make("span", { className: "name", dir: "auto" }, name);
  return mark ? [words, make("span", { className: "mark" }, mark)] : [words];
}

/** The page's element of this id. */
export const byId = (id) => document.getElementById(id);

/** Whether a key belongs to an input method. In Safari only the key code says so of the key that ends a composition. */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

/** Sets an element's text if it differs: setting the same text would cost a layout. */
export function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}
