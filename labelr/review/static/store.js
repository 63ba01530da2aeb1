/** What is shown, where it comes from, and how it changes. The views read `store` and listen to its events. */

import { get, queue, Refused } from "./api.js";
import { banner, byId, count, quoted, say } from "./dom.js";

export const store = {
  state: null, // /api/state: labels with their counts, queues, what is allowed
  place: { queue: "", label: null, folder: "", text: "", offset: 0 }, // label: the list's subject, else a filter or null
  size: 40, // images on a page
  page: { total: 0, items: [], byImage: new Map() },
  cursor: 0, // index into page.items
  tileWidth: 160, // pixels
};

const listeners = {};
export const on = (event, listener) => (listeners[event] ??= []).push(listener);
export const emit = (event, value) => (listeners[event] ?? []).forEach((listener) => listener(value));

export const queueOf = (place) => store.state.queues.find(({ id }) => id === place.queue);
export const queueNow = () => queueOf(store.place);
export const perLabel = () => queueNow().per_label;
export const itemNow = () => store.page.items[store.cursor];
export const nameOf = (label) => store.state.labels[label].name;

// --- cells: {image, label, prob, given, answer, predicted} -------------------------------------------------------------------------

/** "yes" or "no" as given, else as predicted; null if neither is known or proposals are hidden. */
export function proposed({ given, predicted }) {
  const value = given ?? predicted;
  return value === null ? null : value ? "yes" : "no";
}

/** What a cell shows: the answer, else the proposal; "undecided" without one, but "no" where all proposals are hidden. */
export const shown = (cell) => cell.answer ?? proposed(cell) ?? (store.state.blind ? "no" : "undecided");
export const flipped = (cell) => (shown(cell) === "yes" ? "no" : "yes");
export const unknownOrNot = (cell) => (cell.answer === "unknown" ? proposed(cell) ?? "no" : "unknown");
export const isUndecided = (cell) => shown(cell) === "undecided";
/** The answer that confirms a cell where everything is decided: what is not marked is "no". */
export const decided = (cell) => (isUndecided(cell) ? "no" : shown(cell));

/** Whether a person's answer contradicts what was given or predicted. */
export const corrected = (cell) => proposed(cell) !== null && flipped({ ...cell, answer: null }) === cell.answer;
export const isAnswered = ({ cells }) => cells.length > 0 && cells.every((cell) => cell.answer);

// --- pages of images, and single images, the most recent ones of each -----------------------------------------------------

const pages = new Map(); // query -> promise of a page
const details = new Map(); // image -> promise of /api/images/ID

/** The value of a key, asked for once; with its result in `loaded` when that is there. */
function cached(map, limit, key, ask) {
  if (!map.has(key)) {
    const value = ask();
    value.then((loaded) => { value.loaded = loaded; }, () => map.delete(key));
    map.set(key, value);
    if (map.size > limit) map.delete(map.keys().next().value);
  }
  return map.get(key);
}

/** Has everything loaded again. */
export const forget = () => [pages, details].forEach((map) => map.clear());

const loadedOf = (map) => [...map.values()].map((value) => value.loaded).filter(Boolean);

/** All loaded copies of a cell. */
function copiesOf({ image, label }) {
  const items = [...loadedOf(details), ...[store.page, ...loadedOf(pages)].map((page) => page.byImage.get(image))];
  return items.flatMap((item) => (item?.image === image ? item.cells.filter((cell) => cell.label === label) : []));
}

/** An image whose cells are objects and have the answers that are not saved yet. */
function withCells(item, cells) {
  const unsaved = queue.answers().filter(({ image }) => image === item.image);
  for (const cell of cells) cell.answer = unsaved.findLast(({ label }) => label === cell.label)?.answer ?? cell.answer;
  return { ...item, cells: cells.map((cell) => ({ image: item.image, ...cell })) };
}

function makePage({ total, items, threshold_at: thresholdAt, progress = 1 }, label) {
  const cellsOf = ({ cells, prob, given, answer: told, predicted }) =>
    cells?.map(([id, ...rest]) => ({ label: id, prob: rest[0], given: rest[1], answer: rest[2], predicted: rest[3] }))
      ?? [{ label, prob, given, answer: told, predicted }];
  const all = items.map((item) => withCells(item, cellsOf(item)));
  return { total, thresholdAt, progress, items: all, byImage: new Map(all.map((item) => [item.image, item])) };
}

const listOf = ({ queue: id, label, folder, text }) => ({ queue: id, label, folder, text });

async function fetchPage(place) {
  if (queueOf(place).shrinks) {
    pages.clear(); // where answered images leave the list, positions hold until the next answer only
    while (queue.entries.length) await new Promise((resolve) => { setTimeout(resolve, 5); });
  }
  const query = { ...listOf(place), offset: place.offset, limit: store.size };
  return cached(pages, 6, JSON.stringify(query), () => get("/api/items", query).then((told) => makePage(told, place.label)));
}

/** An image with all its cells, in the order of the labels. */
export const detailsOf = (image) =>
  cached(details, 12, image, () => get(`/api/images/${image}`).then((told) => withCells(told, told.cells)));

let latest = 0; // only the place that was asked for last is shown

/** Shows another place: what of it changes, and where the cursor stands (-1: on the last image). */
export async function go(change, cursor = 0) {
  const place = { ...store.place, ...change };
  const ticket = ++latest;
  document.body.setAttribute("aria-busy", "true");
  try {
    const page = await fetchPage(place).finally(() => document.body.removeAttribute("aria-busy"));
    if (ticket !== latest) return undefined;
    const last = page.items.length - 1;
    if (last < 0 && page.total) return await goTo(place, page.total - 1); // the list has become shorter
    Object.assign(store, { place, page, cursor: cursor < 0 ? last : Math.max(0, Math.min(cursor, last)) });
    emit("page");
    if (page.progress !== 1) await searchOn(ticket);
    const offset = place.offset + pageStep();
    const next = offset < page.total ? await fetchPage({ ...place, offset }) : { items: [] };
    for (const { image } of next.items) new Image().src = thumbnail(image, store.tileWidth); // they are there when wanted
  } catch (error) {
    failed("The images cannot be loaded", error);
  }
  return undefined;
}

/** Loads a list again that is still being searched for. */
async function searchOn(ticket) {
  await new Promise((resolve) => { setTimeout(resolve, 1000); });
  if (ticket !== latest) return;
  forget();
  store.state = await get("/api/state");
  await go({}, store.cursor);
}

export const goTo = (place, index) => go({ ...place, offset: index - (index % store.size) }, index % store.size);

/** How far the next page is: in a list that answered images leave, only the others still stand before it. */
export const pageStep = (items = store.page.items) =>
  (queueNow().shrinks ? items.filter((item) => !item.touched && !isAnswered(item)).length : items.length);

/** The position of the first image of a list, from a position on, that has no answer yet; null if there is none. */
export const findUnreviewed = (place, from) => get("/api/next", { ...listOf(place), from }).then(({ index }) => index);

/** Goes to the first image without an answer from a position on, else of the whole list, else to the start. */
export async function goUnreviewed(change, from = 0) {
  const place = { ...store.place, ...change };
  const ticket = ++latest;
  const find = (start) => findUnreviewed(place, start).catch(() => null);
  const index = (await find(from)) ?? (from ? await find(0) : null);
  if (ticket !== latest) return;
  if (index === null) say("Every image of this list has an answer.");
  await goTo(place, index ?? 0);
}

export const thumbnail = (image, pixels) => `/thumbs/${image}?size=${pixels * Math.min(devicePixelRatio, 2) > 200 ? 320 : 160}`;

// --- changes ------------------------------------------------------------------------------------------------------------

function apply(changes) {
  for (const change of changes) {
    for (const cell of copiesOf(change)) Object.assign(cell, { answer: change.answer, when: null });
    const item = store.page.byImage.get(change.image);
    if (item) item.touched = true;
  }
  emit("answers", changes);
}

const places = new Map(); // number of undo steps -> where that step was made

/** Answers cells with a function of the cell: shown at once, saved in order. One call is one undo step. */
export function answer(cells, value) {
  if (store.state.read_only) return say("Read-only: answers are not saved.", true);
  const changes = cells.map((cell) => ({ image: cell.image, label: cell.label, answer: value(cell) }))
    .filter((change) => copiesOf(change)[0]?.answer !== change.answer);
  if (!changes.length) return undefined;
  apply(changes);
  const made = [{ ...store.place }, store.cursor];
  return queue.push("/api/answers", { answers: changes }).then(
    (news) => { places.set(news.undo, made); update(news); },
    (error) => { failed("An answer was refused", error); forget(); return go({}, store.cursor); },
  );
}

/** Takes over what the server says, except on cells with an answer that is still to be saved; returns what is new. */
export function update(news) {
  const { state } = store;
  Object.assign(state, { undo: news.undo, redo: news.redo, refit: news.refit });
  if (news.revision === state.revision + 1) state.revision += 1; // else others have answered too: the poll brings it
  if (!queue.entries.length) {
    if (news.labels.length !== state.labels.length) details.clear();
    state.labels = news.labels;
  }
  if ("warning" in news) banner("warning", news.warning);
  for (const change of news.changes) { // with an answer, a blind review shows what it has hidden
    const { prob, given, predicted } = change;
    for (const cell of copiesOf(change)) Object.assign(cell, { prob, given, predicted });
  }
  const unsaved = queue.answers();
  const changes = news.changes.filter((change) => copiesOf(change).some((cell) => cell.answer !== change.answer)
    && !unsaved.some(({ image, label }) => image === change.image && label === change.label));
  if (changes.length) apply(changes);
  else if (state.blind && news.changes.length) emit("answers", news.changes);
  emit("state");
  return changes;
}

async function step(path, verb) {
  if (!queue.entries.length && !store.state[path]) return say(`Nothing to ${path}.`);
  try {
    const news = await queue.push(`/api/${path}`, {});
    const made = places.get(path === "undo" ? news.undo + 1 : news.undo);
    update(news);
    const labels = new Set(news.changes.map(({ label }) => label));
    const of = labels.size === 1 ? ` of ${quoted(nameOf([...labels][0]))}` : "";
    say(`${verb}: ${count(news.changes.length, "answer")}${of}.`);
    if (made) await go(...made);
    else if (queueNow().shrinks) await go({}, store.cursor);
  } catch (error) {
    failed(`Nothing was ${verb.toLowerCase()}`, error);
  }
  return undefined;
}

export const undo = () => step("undo", "Undone");
export const redo = () => step("redo", "Redone");

/** Adds a label; returns its number, null if that failed. */
export async function addLabel(name) {
  try {
    const { label, labels } = await queue.push("/api/labels", { name });
    forget();
    store.state.labels = labels;
    emit("state");
    return label;
  } catch (error) {
    failed("The label was not added", error);
    return null;
  }
}

// --- news from other windows, and a lost server ---------------------------------------------------------------------------

const EXPIRED = "This address is no longer valid. Open the one that labelr printed last.";
const LOST = "The server does not answer. Is labelr still running? Answers wait in this window until it is back.";

export function failed(what, error) {
  const refused = error instanceof Refused;
  if (!refused || error.status === 403) banner("lost", refused ? EXPIRED : LOST);
  say(`${what}: ${refused ? error.message : "the server does not answer"}`, true);
  if (!refused && !(error instanceof TypeError)) throw error; // not the network: a mistake in this page
}

export async function poll() {
  if (document.visibilityState !== "visible") return;
  try {
    const news = await get("/api/changes", { since: store.state.revision });
    if (!byId("lost").hidden) emit("page"); // with the images that were not loaded
    banner("lost", "");
    if (queue.problem) queue.retry();
    const changes = update(news);
    store.state.revision = news.revision;
    if (changes.length) say(`${count(changes.length, "answer")} came from another window.`);
  } catch (error) {
    if (!(error instanceof Refused) || error.status === 403) banner("lost", error instanceof Refused ? EXPIRED : LOST);
  }
}
