/** Every key: one table for each view, from which the keyboard and its help are made. */

import * as grid from "./grid.js";
import * as single from "./single.js";
import { byId, el, onClick } from "./dom.js";
import { emit, redo, store, undo } from "./store.js";
import { stepLabel } from "./side.js";

const focusOn = (id) => () => { byId(id).focus(); byId(id).select(); };
const openHelp = () => byId("help").showModal();

/** View -> [keys as `keyOf` names them, keys as written, what they do, function of the key]. */
const TABLES = {
  grid: [
    [["ArrowLeft", "ArrowRight"], "Left, Right", "go to another image", (key) => grid.moveTo(store.cursor + (key === "ArrowLeft" ? -1 : 1))],
    [["ArrowUp", "ArrowDown"], "Up, Down", "go to another row", (key) => grid.moveRow(key === "ArrowUp" ? -1 : 1)],
    [["Home", "End"], "Home, End", "first, last image of the page", (key) => grid.moveTo(key === "Home" ? 0 : store.page.items.length - 1)],
    [["Space", "x"], "Space or x", "mark the image as wrong, or take the mark back", grid.flip],
    [["u"], "u", "answer “unknown”", grid.unknown],
    [["Enter"], "Enter", "confirm the page as it is shown, and go on", () => grid.confirm()],
    [["Shift+Enter"], "Shift Enter", "the same, and “no” for undecided images", () => grid.confirm(true)],
    [["PageDown", "PageUp"], "Page Down, Up", "next, previous page; nothing is decided", (key) => (key === "PageDown" ? grid.nextPage : grid.previousPage)()],
    [["n"], "n", "next page with images without an answer", grid.nextUnreviewed],
    [["o"], "o", "open the image", () => emit("open")],
    [["j", "k"], "j, k", "next, previous label", (key) => stepLabel(key === "j" ? 1 : -1)],
    [["/"], "/", "find a label", focusOn("find")],
    [["f"], "f", "filter by file name", focusOn("text")],
    [["+", "-"], "+, -", "larger, smaller images", (key) => grid.resize(store.size + (key === "+" ? -10 : 10))],
  ],
  single: [
    [["ArrowLeft", "ArrowRight"], "Left, Right", "go to another image; nothing is decided", (key) => single.step(key === "ArrowLeft" ? -1 : 1)],
    [["n"], "n", "next image without an answer", single.nextUnreviewed],
    [[...single.LABEL_KEYS], "1 to 9, letters", "change the label that has this key", (key) => single.change(single.LABEL_KEYS.indexOf(key))],
    [["ArrowUp", "ArrowDown"], "Up, Down", "go to another label", (key) => single.move(key === "ArrowUp" ? -1 : 1)],
    [["Space"], "Space", "change this label", () => single.change()],
    [["u"], "u", "answer “unknown” for this label", single.unknown],
    [["/"], "/", "find a label by its name", focusOn("find-cell")],
    [["a"], "a", "add a label", single.askForLabel],
    [["Enter"], "Enter", "confirm the labels in question, and go on", () => single.confirm()],
    [["Shift+Enter"], "Shift Enter", "confirm all labels, undecided ones as “no”, and go on", () => single.confirm(true)],
    [["+", "-"], "+, -", "zoom; also wheel, drag and double click", (key) => single.zoomBy(key === "+" ? 1.5 : 1 / 1.5)],
    [["0"], "0", "show the whole image", single.zoomOut],
    [["Escape"], "Escape", "back to the grid", () => emit("close")],
  ],
  both: [
    [["Ctrl+z"], "Ctrl Z", "undo, as often as you like", undo],
    [["Ctrl+Shift+z", "Ctrl+y"], "Ctrl Shift Z", "redo", redo],
    [["?"], "?", "this help", openHelp],
  ],
};

const REPEATED = /Arrow|Page|Ctrl|[+-]/; // a key that is held down decides nothing again

function keyOf({ key, code, ctrlKey, metaKey, shiftKey }) {
  const typed = key > "\x7f" && code?.startsWith("Key") ? code[3] : key; // the same place on a keyboard of another script
  const name = typed === " " ? "Space" : typed.length === 1 ? typed.toLowerCase() : typed;
  if (ctrlKey || metaKey) return `Ctrl+${shiftKey ? "Shift+" : ""}${name}`;
  return shiftKey && name.length > 1 ? `Shift+${name}` : name;
}

function press(event) {
  const { target } = event;
  if (event.isComposing || event.altKey || document.querySelector("dialog[open]")) return;
  if (target.matches("input, select")) {
    if (event.key !== "Escape") return;
    event.preventDefault();
    target.blur();
    emit("focus");
    return;
  }
  const key = keyOf(event);
  if (/Enter|Space/.test(key) && target.matches("button:not(.own-keys)")) return; // that button is pressed
  const [, , , run] = [...TABLES[document.body.dataset.view], ...TABLES.both].find(([keys]) => keys.includes(key)) ?? [];
  if (!run) return;
  event.preventDefault();
  if (!event.repeat || REPEATED.test(key)) run(key);
}

export function start() {
  document.addEventListener("keydown", press);
  onClick({ "help-open": openHelp });
  const titles = { grid: "In the grid", single: "On one image", both: "Everywhere" };
  byId("help-tables").append(...Object.entries(TABLES).map(([view, rows]) => el("section", {}, el("h3", { text: titles[view] }),
    el("dl", {}, ...rows.flatMap(([, written, help]) => [el("dt", { text: written }), el("dd", { text: help })])))));
}
