// Elements without markup: text is only ever text.

/** An element with properties, and children that are nodes or strings. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The page's element of this id. */
export const byId = (id) => document.getElementById(id);

/** Sets an element's text unless it says so already: the browser would lay it out again. */
export function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}
