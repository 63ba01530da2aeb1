/** The page on which labels are corrected: starts the views and keeps the place in the address. */

import { get, queue } from "./api.js";
import * as grid from "./grid.js";
import * as keys from "./keys.js";
import * as side from "./side.js";
import * as single from "./single.js";
import { banner, byId, onClick } from "./dom.js";
import { failed, goTo, goUnreviewed, on, poll, queueOf, store } from "./store.js";

const POLL = 2000; // milliseconds between questions for news

const isSingle = () => document.body.dataset.view === "single";

function show(view) {
  document.body.dataset.view = view;
  byId("grid-view").hidden = view !== "grid";
  byId("single-view").hidden = view !== "single";
  document.activeElement.blur();
  draw();
  if (isSingle()) byId("image-name").focus();
}

function draw() {
  if (isSingle() && !store.page.items.length) return show("grid");
  side.draw();
  if (isSingle()) single.show();
  else grid.draw();
  return keepPlace();
}

/** Keeps the place in the address, without the token, so that a reload comes back to it. */
function keepPlace() {
  const { offset, ...kept } = store.place;
  const entries = Object.entries({ ...kept, at: offset + store.cursor, size: store.size, view: document.body.dataset.view });
  history.replaceState(null, "", `/#${new URLSearchParams(entries.filter(([, value]) => value !== "" && value !== null))}`);
}

async function goFirst() {
  const kept = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const { queues, labels } = store.state;
  const place = { queue: kept.queue, folder: kept.folder ?? "", text: kept.text ?? "", label: kept.label in labels ? Number(kept.label) : null };
  if (!queueOf(place)) place.queue = queues.find((one) => !one.per_label || labels.length).id;
  if (queueOf(place).per_label) place.label ??= 0;
  grid.setSize(Number(kept.size));
  Object.assign(store.place, place);
  if (kept.view === "single") document.body.dataset.view = "single";
  if (kept.at) await goTo(place, Number(kept.at));
  else await goUnreviewed(place);
  if (isSingle()) show("single");
}

async function start() {
  try {
    store.state = await get("/api/state");
  } catch (error) {
    failed("The page cannot be loaded", error);
    return;
  }
  on("page", draw);
  on("answers", () => { (isSingle() ? single : grid).redraw(); side.drawProgress(); });
  on("state", side.drawProgress);
  on("open", () => store.page.items.length && show("single"));
  on("close", () => show("grid"));
  on("focus", () => isSingle() || grid.moveTo(store.cursor));
  for (const module of [grid, single, side, keys]) module.start();
  onClick({ back: () => show("grid") });
  addEventListener("beforeunload", (event) => { if (queue.answers().length) event.preventDefault(); });
  document.addEventListener("visibilitychange", poll);
  banner("read-only", store.state.read_only ? "Read-only: you can look, answers are not saved." : "");
  banner("blind", store.state.blind ? "Proposals are hidden: mark the images to which the label applies." : "");
  banner("warning", store.state.warning);
  await goFirst();
  const pollOn = () => poll().finally(() => setTimeout(pollOn, POLL));
  pollOn();
  await side.watchTraining();
}

start();
