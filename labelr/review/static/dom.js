/** Elements and texts. Names from files only ever become text: nothing here or elsewhere sets HTML. */

export const byId = (id) => document.getElementById(id);

/** An element; null and false leave an attribute out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Runs functions when the buttons with these ids are clicked. */
export function onClick(buttons) {
  for (const [id, run] of Object.entries(buttons)) byId(id).addEventListener("click", () => run());
}

export const percent = (prob) => `${Math.round(100 * prob)}\u202f%`;
export const numeral = (number) => number.toLocaleString("en");
export const count = (number, noun) => `${numeral(number)} ${noun}${number === 1 ? "" : "s"}`;
export const quoted = (name) => `“\u2068${name}\u2069”`; // isolated: a name in Arabic does not reorder the sentence

let clearing = 0;

/** Shows a message for some seconds, in a live region that screen readers read out. */
export function say(text, wrong = false) {
  byId("message").textContent = text;
  byId("message").classList.toggle("wrong", wrong);
  clearTimeout(clearing);
  clearing = setTimeout(() => { byId("message").textContent = ""; }, wrong ? 12000 : 6000);
}

/** Shows a banner above the page, or hides it if there is no text. */
export function banner(id, text) {
  byId(id).hidden = !text;
  if (byId(id).textContent !== (text || "")) byId(id).textContent = text || "";
}
