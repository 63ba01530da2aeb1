/** The grid: a page of images, on which the wrong ones are marked and the page is confirmed. */

import { byId, count, el, numeral, onClick, percent, quoted, say } from "./dom.js";
import {
  answer, corrected, decided, emit, findUnreviewed, flipped, go, goTo, goUnreviewed, isAnswered, isUndecided, itemNow, nameOf, pageStep, perLabel,
  proposed, queueNow, shown, store, thumbnail, unknownOrNot,
} from "./store.js";

const SIZES = [10, 120]; // images on a page
const GAP = 6; // pixels, as in the style sheet
const tiles = byId("tiles");

const nodes = () => [...tiles.querySelectorAll(".tile")];

// --- drawing ------------------------------------------------------------------------------------------------------------

/** Why a cell shows what it shows, in words. */
export function because({ answer: told, given, prob }) {
  const words = [told && `answered ${told}`, given !== null && `given ${given ? "yes" : "no"}`, prob !== null && `predicted ${percent(prob)}`];
  return words.filter(Boolean).join(", ") || "no answer yet";
}

/** A sign that is filled where a person has answered, outlined where the value is only given or predicted. */
export const signOf = (cell) =>
  el("span", { class: `sign ${cell.answer ? "answered" : proposed(cell) ? "" : "nothing"} ${shown(cell)}` });

function drawTile(node, item) {
  const [cell] = item.cells;
  node.classList.toggle("answered", isAnswered(item));
  if (!perLabel()) {
    const names = item.cells.slice(0, 6).map((one) => el("span", { class: "chip" }, signOf(one), el("bdi", { text: nameOf(one.label) })));
    node.lastChild.replaceChildren(el("span", { class: "why", text: item.reason }), ...names);
    node.setAttribute("aria-label", [item.name, item.reason].filter(Boolean).join(": "));
    return;
  }
  const now = shown(cell);
  const pressed = now === "unknown" ? "mixed" : proposed(cell) && !store.state.blind ? corrected(cell) : now === "yes";
  node.classList.toggle("wrong", corrected(cell));
  node.classList.toggle("yes", now === "yes");
  node.setAttribute("aria-pressed", pressed);
  node.setAttribute("aria-label", `${item.name}: ${now}, ${because(cell)}`);
  const prob = cell.prob === null ? "" : percent(cell.prob);
  node.lastChild.replaceChildren(signOf(cell), el("span", { class: "now", text: now }), el("span", { class: "prob", text: prob }));
}

function makeTile(item, index) {
  const picture = el("img", { src: thumbnail(item.image, store.tileWidth), alt: "", draggable: "false" });
  picture.addEventListener("error", () => picture.replaceWith(el("span", { class: "soft", text: "This image cannot be shown." })));
  const node = el("button", { type: "button", class: "tile own-keys", tabindex: "-1", title: item.name, "data-index": index },
    el("span", { class: "picture" }, picture, el("span", { class: "open", "aria-hidden": "true", title: "Open this image (o)" })),
    el("span", { class: "caption" }));
  drawTile(node, item);
  return node;
}

/** The number of images above the threshold, if it is on this page; else null. */
function lineAt() {
  const at = store.page.thresholdAt === null ? -1 : store.page.thresholdAt - store.place.offset;
  return perLabel() && at >= 0 && at < store.page.items.length ? at : null;
}

/** Chooses the fewest columns with which the page fits the window; tiles stay large enough for a thumb. */
function fit() {
  const line = lineAt();
  const [smallest, caption] = perLabel() ? [84, 26] : [132, 76];
  const scrolls = getComputedStyle(tiles).overflowY === "visible";
  const height = (scrolls ? 0.75 * innerHeight : tiles.clientHeight) - (line === null ? 0 : 34);
  const number = Math.min(store.size, store.page.total);
  const rows = (columns) => Math.ceil((line ?? 0) / columns) + Math.ceil((number - (line ?? 0)) / columns);
  const width = (columns) => (tiles.clientWidth - GAP * (columns + 1)) / columns;
  let columns = 1;
  while (width(columns + 1) >= smallest && rows(columns) * (0.75 * width(columns) + caption + GAP) > height) columns += 1;
  store.tileWidth = width(columns);
  tiles.style.setProperty("--columns", columns);
}

export function draw() {
  const { items, total, progress } = store.page;
  const { offset, folder, text, label } = store.place;
  fit();
  const children = items.map(makeTile);
  const line = lineAt();
  if (line !== null) {
    const threshold = `Below the threshold of ${store.state.labels[label].threshold.toPrecision(2)}`;
    children.splice(line, 0, el("div", { class: "line", role: "separator", "aria-label": threshold }, el("span", { text: threshold })));
  }
  tiles.replaceChildren(...children);
  tiles.scrollTop = 0;
  const nothing = folder || text ? "No image fits the filters." : "Nothing is left in this list.";
  byId("empty").textContent = progress !== 1 ? `Searching: ${percent(progress ?? 0)}` : items.length ? "" : nothing;
  byId("grid-title").textContent = perLabel() ? nameOf(label) : queueNow().title;
  byId("page-of").textContent = items.length ? `${numeral(offset + 1)}–${numeral(offset + items.length)} of ${count(total, "image")}` : "";
  byId("next-page").disabled = offset + pageStep() >= total;
  byId("previous-page").disabled = offset === 0;
  byId("unknown").hidden = !perLabel();
  drawActions();
  moveTo(store.cursor);
}

function drawActions() {
  const item = itemNow();
  const { items } = store.page;
  const cells = perLabel() ? items.map(({ cells: [cell] }) => cell) : [];
  const parts = ["yes", "no", "unknown", "undecided"].map((value) => [cells.filter((cell) => shown(cell) === value).length, value]);
  const totals = parts.filter(([number]) => number).map(([number, value]) => `${number} ${value}`).join(", ");
  const verb = cells.some((cell) => !cell.answer && !isUndecided(cell)) && !store.state.read_only ? "Confirm the page" : "Go on";
  byId("confirm").textContent = perLabel() ? `${verb}: ${totals}` : "Open the image";
  byId("confirm").disabled = !items.length;
  byId("details").textContent = item ? [item.name, perLabel() ? because(item.cells[0]) : item.reason].filter(Boolean).join(": ") : "";
}

export function redraw() {
  nodes().forEach((node, index) => drawTile(node, store.page.items[index]));
  drawActions();
}

// --- moving and marking ---------------------------------------------------------------------------------------------------

export function moveTo(index) {
  const all = nodes();
  all[store.cursor]?.setAttribute("tabindex", "-1");
  store.cursor = Math.max(0, Math.min(index, all.length - 1));
  all[store.cursor]?.setAttribute("tabindex", "0");
  if (!document.activeElement.matches("input, select") && !document.querySelector("dialog[open]")) all[store.cursor]?.focus();
  drawActions();
}

/** Moves the cursor to the nearest image in the row above or below. */
export function moveRow(direction) {
  const boxes = nodes().map((node) => node.getBoundingClientRect());
  const from = boxes[store.cursor];
  const distances = boxes.map(({ top, left }) => {
    const down = direction * (top - from.top);
    return down > 1 ? 1000 * down + Math.abs(left - from.left) : Infinity;
  });
  const nearest = Math.min(...distances);
  if (nearest < Infinity) moveTo(distances.indexOf(nearest));
}

/** Marks the image at the cursor as wrong, or takes the mark back. */
export const flip = () => (perLabel() && itemNow() ? answer(itemNow().cells, flipped) : emit("open"));
export const unknown = () => perLabel() && itemNow() && answer(itemNow().cells, unknownOrNot);

/** Says that confirming has passed over cells of which nothing is known. */
export const leftOut = (number, noun) => `Left out ${count(number, `undecided ${noun}`)}: mark them, or answer “no” with Shift Enter.`;

/** Answers every image of the page as it is shown, in one step, and goes on; undecided ones only with `all`, by "no". */
export async function confirm(all = false) {
  if (!perLabel()) return emit("open");
  if ([...tiles.querySelectorAll("img")].some((image) => !image.complete)) return say("Some images are still loading.");
  const { items, total } = store.page;
  const { offset, label } = store.place;
  const cells = items.map(({ cells: [cell] }) => cell);
  const undecided = all ? [] : cells.filter(isUndecided);
  const left = cells.filter((cell) => !cell.answer && !undecided.includes(cell));
  const saved = left.length && !store.state.read_only ? answer(left, decided) : null;
  if (saved) say(`Confirmed ${count(left.length, "image")} for ${quoted(nameOf(label))}, ${cells.filter(corrected).length} corrected.`);
  if (undecided.length && !store.state.read_only) say(leftOut(undecided.length, "image"));
  const next = offset + pageStep();
  if (next < total) return go({ offset: next });
  await saved;
  return finish(label);
}

/** Goes on to images that were passed over, else to the next label that has images without an answer. */
async function finish(label) {
  if ((await findUnreviewed(store.place, 0).catch(() => null)) !== null) return goUnreviewed({});
  const { labels, images } = store.state;
  const order = [...labels.keys()];
  const next = [...order.slice(label + 1), ...order.slice(0, label)].find((index) => labels[index].reviewed < images);
  if (next !== undefined) await goUnreviewed({ label: next });
  return say(`${quoted(nameOf(label))} is finished. ${next === undefined ? "Nothing is left." : `Now: ${quoted(nameOf(next))}.`}`);
}

export const nextPage = () => byId("next-page").disabled || go({ offset: store.place.offset + pageStep() });
export const previousPage = () => byId("previous-page").disabled || go({ offset: Math.max(0, store.place.offset - store.size) });
export const nextUnreviewed = () => goUnreviewed({}, store.place.offset + pageStep());

export function setSize(size) {
  store.size = Math.max(SIZES[0], Math.min(size || store.size, SIZES[1]));
  byId("size").value = byId("size-shown").textContent = store.size;
}

export function resize(size) {
  setSize(size);
  return goTo({}, store.place.offset + store.cursor);
}

export function start() {
  tiles.addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    moveTo(Number(tile.dataset.index));
    if (event.target.closest(".open")) emit("open");
    else flip();
  });
  tiles.addEventListener("focusin", ({ target }) => {
    if (target.matches(".tile") && Number(target.dataset.index) !== store.cursor) moveTo(Number(target.dataset.index));
  });
  onClick({ confirm, unknown, "next-page": nextPage, "previous-page": previousPage });
  byId("size").addEventListener("input", ({ target }) => { byId("size-shown").textContent = target.value; });
  byId("size").addEventListener("change", ({ target }) => { target.blur(); resize(Number(target.value)); });
  new ResizeObserver(() => store.page.items.length && tiles.clientWidth && fit()).observe(tiles);
}
