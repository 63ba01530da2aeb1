/** One image, large, with all its labels. */

import { because, leftOut, signOf } from "./grid.js";
import { byId, count, el, numeral, onClick, percent, quoted, say } from "./dom.js";
import {
  addLabel, answer, corrected, decided, detailsOf, emit, failed, findUnreviewed, flipped, go, goTo, isUndecided, itemNow, nameOf, pageStep,
  perLabel, queueNow, shown, store, thumbnail, unknownOrNot,
} from "./store.js";

export const LABEL_KEYS = "123456789bcdefghijklmopqrstvwxyz"; // without the letters of commands: a, n, u
const ROWS = 100; // labels in the list; typing finds the others
const image = byId("image");
const stage = byId("stage");
const zoom = { scale: 1, x: 0, y: 0 };
let current = null; // the label that Space and u change
let order = []; // the labels as listed
let details = null; // the image with its cells
let isVisible = false; // its thumbnail or the whole image has been loaded

/** The labels in question; of an image without a question all. */
const asked = () => (queueNow().asks ? itemNow().cells.map(({ label }) => label) : perLabel() ? [store.place.label] : []);

// --- the image ------------------------------------------------------------------------------------------------------------

/** Shows the image at the cursor: its thumbnail at once, then the whole image and its labels. */
export async function show() {
  const item = itemNow();
  if (!item) return;
  byId("image-name").textContent = item.name;
  byId("image-of").textContent = `${numeral(store.place.offset + store.cursor + 1)} of ${count(store.page.total, "image")}`;
  byId("reason").textContent = item.reason ?? "";
  byId("find-cell").value = "";
  byId("cells").replaceChildren();
  details = null;
  zoomOut();
  showPicture(item);
  try {
    const loaded = await detailsOf(item.image);
    if (itemNow() !== item) return;
    details = loaded;
    arrange();
    for (const near of [store.cursor + 1, store.cursor - 1].map((index) => store.page.items[index]).filter(Boolean)) {
      detailsOf(near.image).catch(() => null); // said when it is shown
      new Image().src = `/images/${near.image}`;
    }
  } catch (error) {
    failed("The labels of this image cannot be loaded", error);
  }
}

function showPicture(item) {
  isVisible = false;
  image.alt = item.name;
  image.src = thumbnail(item.image, 320);
  stage.classList.remove("failed");
  const whole = new Image();
  whole.src = `/images/${item.image}`;
  whole.decode().then(
    () => { if (itemNow() === item) image.src = whole.src; },
    () => stage.classList.toggle("failed", itemNow() === item),
  );
}

function setZoom(scale, x, y) {
  const limit = (value, side) => Math.max(-side * (scale - 1), Math.min(0, value));
  Object.assign(zoom, { scale, x: limit(x, stage.clientWidth), y: limit(y, stage.clientHeight) });
  image.style.transform = `translate(${zoom.x}px, ${zoom.y}px) scale(${scale})`;
  stage.classList.toggle("zoomed", scale > 1);
}

/** Zooms by a factor; the given point of the stage (default: its middle) stays where it is. */
export function zoomBy(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const scale = Math.max(1, Math.min(zoom.scale * factor, 32));
  const grown = scale / zoom.scale;
  setZoom(scale, x - (x - zoom.x) * grown, y - (y - zoom.y) * grown);
}

export const zoomOut = () => setZoom(1, 0, 0);

function listenToStage() {
  for (const event of ["load", "error"]) image.addEventListener(event, () => { isVisible ||= image.complete; });
  const at = ({ clientX, clientY }) => [clientX - stage.getBoundingClientRect().left, clientY - stage.getBoundingClientRect().top];
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 400), ...at(event));
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => {
    const pixels = Math.max(image.naturalWidth / stage.clientWidth, image.naturalHeight / stage.clientHeight);
    if (zoom.scale > 1) zoomOut();
    else zoomBy(Math.max(2, pixels), ...at(event)); // to the image's own pixels, if it has more than the window
  });
  stage.addEventListener("pointerdown", (event) => event.button === 0 && stage.setPointerCapture(event.pointerId));
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) setZoom(zoom.scale, zoom.x + event.movementX, zoom.y + event.movementY);
  });
}

// --- its labels -------------------------------------------------------------------------------------------------------------

/** Orders the labels: as in the file where all have keys, else those in question and those that apply first. */
function arrange() {
  const questions = asked();
  order = details.cells.map(({ label }) => label);
  if (order.length > LABEL_KEYS.length) {
    const ranks = details.cells.map((cell) => 4 * questions.includes(cell.label) + 2 * (shown(cell) === "yes") + (cell.prob ?? 0));
    order.sort((a, b) => ranks[b] - ranks[a] || a - b);
  }
  current = questions[0] ?? current ?? order[0] ?? null;
  drawCells();
}

/** The labels whose names contain what is typed, those first whose names start with it. */
function matching() {
  const wanted = byId("find-cell").value.trim().toLowerCase();
  const at = (label) => nameOf(label).toLowerCase().indexOf(wanted);
  return wanted ? order.filter((label) => at(label) >= 0).sort((a, b) => (at(a) > 0) - (at(b) > 0)) : order;
}

function drawCells() {
  const found = matching();
  const focused = byId("cells").contains(document.activeElement);
  byId("cells").replaceChildren(...found.slice(0, ROWS).map((label) => el("li", {}, makeCell(details.cells[label]))));
  if (focused) byId("cells").querySelector(".current")?.focus();
  const more = found.length - ROWS;
  byId("cells-more").textContent = more > 0 ? `and ${count(more, "label")} more: type to find one` : found.length ? "" : "No label has this name.";
  drawConfirm();
}

function makeCell(cell) {
  const { label, given, prob, when } = cell;
  const now = shown(cell);
  const node = el("button", {
    type: "button", class: "cell own-keys", "data-label": label, "aria-pressed": now === "unknown" ? "mixed" : String(now === "yes"),
    "aria-label": `${nameOf(label)}: ${now}, ${because(cell)}`, title: because(cell) + (when ? `, ${new Date(when).toLocaleString()}` : ""),
  }, el("kbd", { text: LABEL_KEYS[label] ?? "" }), signOf(cell), el("bdi", { class: "name", text: nameOf(label) }),
  el("span", { class: "soft", text: given === null ? "" : `given ${given ? "yes" : "no"}` }),
  el("span", { class: "prob", text: prob === null ? "" : percent(prob) }));
  const flags = { yes: now === "yes", wrong: corrected(cell), current: label === current, asked: asked().includes(label) };
  for (const [name, is] of Object.entries(flags)) node.classList.toggle(name, is);
  return node;
}

export function redraw() {
  if (details) drawCells();
}

/** Goes to another label of the list. */
export function move(direction) {
  const rows = [...byId("cells").querySelectorAll(".cell")];
  const next = rows[rows.findIndex((row) => Number(row.dataset.label) === current) + direction];
  if (!next) return;
  next.focus();
  current = Number(next.dataset.label);
  drawCells();
}

/** Changes a label of the image by a function of its cell, and says what it is now. */
export async function change(label = current, value = flipped) {
  const { cells } = await detailsOf(itemNow().image); // a key may be pressed before they are there
  const cell = cells[label ?? 0];
  if (!cell) return;
  current = cell.label;
  answer([cell], value);
  if (!store.state.read_only) say(`${quoted(nameOf(cell.label))}: ${shown(cell)}.`);
}

export const unknown = () => change(current, unknownOrNot);

// --- going on ---------------------------------------------------------------------------------------------------------------

/** The labels in question, or all of them, that have no answer. */
const left = (all, cells = details.cells) =>
  cells.filter(({ label, answer: told }) => !told && (all || !asked().length || asked().includes(label)));

function drawConfirm() {
  const cells = store.state.read_only ? [] : left(false).filter((cell) => !isUndecided(cell));
  const yes = cells.filter((cell) => shown(cell) === "yes").length;
  const what = cells.length === 1 ? `${quoted(nameOf(cells[0].label))}: ${yes ? "yes" : "no"}` : `${yes} yes, ${cells.length - yes} no`;
  byId("confirm-image").textContent = cells.length ? `Confirm ${what}` : "Go on";
}

/** Answers the labels in question that have no answer as they are shown, or all and undecided ones by "no"; goes on. */
export async function confirm(all = false) {
  const item = itemNow();
  if (!isVisible && !image.complete) return say("The image is still loading.");
  const { cells } = await detailsOf(item.image);
  if (itemNow() !== item) return undefined; // the key was pressed twice while they were loading
  if (!store.state.read_only) {
    const open = left(all, cells);
    const sure = open.filter((cell) => all || !isUndecided(cell));
    answer(sure, decided);
    if (sure.length < open.length) say(leftOut(open.length - sure.length, "label"));
  }
  return step(1);
}

export async function step(direction) {
  const { offset } = store.place;
  if (store.page.items[store.cursor + direction]) {
    store.cursor += direction;
    return emit("page");
  }
  const next = direction > 0 ? offset + pageStep() : Math.max(0, offset - store.size);
  if (next >= store.page.total || (direction < 0 && !offset)) return say(`This is the ${direction > 0 ? "last" : "first"} image.`);
  return go({ offset: next }, direction > 0 ? 0 : -1);
}

export async function nextUnreviewed() {
  try {
    const index = await findUnreviewed(store.place, store.place.offset + pageStep(store.page.items.slice(0, store.cursor + 1)));
    if (index === null) say("No image without an answer follows in this list.");
    else await goTo(store.place, index);
  } catch (error) {
    failed("The next image cannot be found", error);
  }
}

export function askForLabel() {
  if (store.state.read_only) return say("Read-only: no label can be added.", true);
  byId("add-name").value = byId("find-cell").value.trim();
  return byId("add").showModal();
}

async function addTyped(event) {
  if (event.submitter?.value === "cancel") return;
  const label = await addLabel(byId("add-name").value.trim());
  if (label === null) return;
  await show();
  change(label, () => "yes");
}

export function start() {
  listenToStage();
  byId("cells").addEventListener("click", ({ target }) => {
    const node = target.closest(".cell");
    if (node) change(Number(node.dataset.label));
  });
  byId("find-cell").addEventListener("input", () => details && drawCells());
  byId("find-cell").addEventListener("keydown", async ({ key, target }) => {
    if (key !== "Enter") return;
    await detailsOf(itemNow().image); // as in `change`
    const [first] = matching();
    if (first === undefined) askForLabel();
    else {
      target.value = "";
      target.blur();
      change(first).then(drawCells);
    }
  });
  byId("add-form").addEventListener("submit", addTyped);
  onClick({
    "confirm-image": confirm, "previous-image": () => step(-1), "next-image": () => step(1), "unknown-cell": unknown,
    "next-unreviewed": nextUnreviewed, "add-label": askForLabel,
  });
}
