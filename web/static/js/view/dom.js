// Elements without markup: text never becomes HTML.

/** An element with properties, and children that are nodes or strings. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The page's element of this id. */
export const byId = (id) => document.getElementById(id);

/** Sets an element's text if it differs: setting the same text would cost a layout. */
export function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}
