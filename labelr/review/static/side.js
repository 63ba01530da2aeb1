/** Beside and above the views: queues, filters, labels with their progress, what is saved, undo, training. */

import { get, queue } from "./api.js";
import { byId, count, el, numeral, onClick, say } from "./dom.js";
import { emit, failed, forget, go, goUnreviewed, nameOf, perLabel, queueOf, redo, store, undo } from "./store.js";

const SHOWN = 200; // labels in the list; typing finds the others

// --- labels -----------------------------------------------------------------------------------------------------------------

function found() {
  const wanted = byId("find").value.trim().toLowerCase();
  return [...store.state.labels.keys()].filter((index) => nameOf(index).toLowerCase().includes(wanted));
}

/** The button of a label; null is that of all labels. */
function labelButton(index) {
  const here = index === store.place.label && "true";
  return el("li", {}, el("button", { type: "button", class: "label", "aria-current": here, "data-label": index ?? "" },
    el("bdi", { class: "name", text: index === null ? "All labels" : nameOf(index) }), el("span", { class: "share" }), el("span", { class: "progress" })));
}

function drawLabels() {
  const list = byId("label-list");
  const indices = found();
  const from = Math.max(0, Math.min(indices.indexOf(store.place.label) - SHOWN / 2, indices.length - SHOWN));
  const focused = list.contains(document.activeElement);
  list.replaceChildren(...(perLabel() ? [] : [labelButton(null)]), ...indices.slice(from, from + SHOWN).map(labelButton));
  const here = list.querySelector("[aria-current]");
  here?.scrollIntoView({ block: "nearest" });
  if (focused) here?.focus();
  const more = indices.length - SHOWN;
  byId("label-more").textContent = more > 0 ? `and ${count(more, "label")} more: type to find one` : indices.length ? "" : "No label has this name.";
  drawCounts();
}

/** Shows how much of each label a person has answered. */
function drawCounts() {
  const { images, labels } = store.state;
  for (const node of byId("label-list").querySelectorAll(".label:not([data-label=''])")) {
    const { name, reviewed } = labels[node.dataset.label];
    node.children[1].textContent = `${numeral(reviewed)} / ${numeral(images)}`;
    node.style.setProperty("--part", reviewed / images);
    node.setAttribute("aria-label", `${name}: ${numeral(reviewed)} of ${count(images, "image")} reviewed`);
  }
}

function chooseLabel(label) {
  if (document.body.classList.contains("menu-open")) toggleMenu();
  return perLabel() ? goUnreviewed({ label }) : go({ label, offset: 0 });
}

export function stepLabel(direction) {
  const next = store.place.label === null ? 0 : store.place.label + direction;
  if (store.state.labels[next]) chooseLabel(next);
  else say(`This is the ${direction > 0 ? "last" : "first"} label.`);
}

// --- queues and filters -------------------------------------------------------------------------------------------------------

function drawFilters() {
  const { queues, folders, writes } = store.state;
  const option = (value, text, chosen) => el("option", { value, text, selected: value === chosen && "" });
  byId("queue").replaceChildren(...queues.map(({ id, title, count: number, shrinks }) =>
    option(id, number === null || shrinks ? title : `${title} (${numeral(number)})`, store.place.queue)));
  byId("folder").replaceChildren(...["", ...folders].map((name) => option(name, name || "All folders", store.place.folder)));
  byId("folder").disabled = !folders.length;
  if (document.activeElement !== byId("text")) byId("text").value = store.place.text;
  byId("writes").textContent = writes;
}

function chooseQueue(id) {
  if (queueOf({ queue: id }).per_label) return goUnreviewed({ queue: id, label: store.place.label ?? 0 });
  return go({ queue: id, label: null, offset: 0 });
}

function listenToFilters() {
  let waiting = 0;
  byId("queue").addEventListener("change", ({ target }) => { target.blur(); chooseQueue(target.value); });
  byId("folder").addEventListener("change", ({ target }) => { target.blur(); go({ folder: target.value, offset: 0 }); });
  byId("text").addEventListener("input", ({ target }) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => go({ text: target.value.trim(), offset: 0 }), 200);
  });
  byId("text").addEventListener("keydown", ({ key, target }) => { if (key === "Enter") { target.blur(); emit("focus"); } });
  byId("find").addEventListener("input", drawLabels);
  byId("find").addEventListener("keydown", ({ key, target }) => {
    if (key !== "Enter" || !found().length) return;
    const [first] = found();
    target.value = "";
    target.blur();
    chooseLabel(first);
  });
  byId("label-list").addEventListener("click", ({ target }) => {
    const node = target.closest(".label");
    if (node) chooseLabel(node.dataset.label === "" ? null : Number(node.dataset.label));
  });
}

const toggleMenu = () => byId("menu").setAttribute("aria-expanded", document.body.classList.toggle("menu-open"));

// --- saving and training ------------------------------------------------------------------------------------------------------

function drawSaving() {
  const { problem } = queue;
  const idle = store.state.read_only ? "Read-only" : "All answers saved";
  const text = problem ? `Not saved: ${count(queue.answers().length, "answer")} (${problem})` : queue.entries.length ? "Saving…" : idle;
  if (byId("saving").textContent !== text) byId("saving").textContent = text;
  byId("saving").classList.toggle("wrong", Boolean(problem));
  byId("saving").ariaLive = problem ? "assertive" : "off"; // read out only what needs attention
  byId("save-again").hidden = !problem;
}

async function train() {
  try {
    await queue.push("/api/refit", {});
    await watchTraining(true);
  } catch (error) {
    failed("The training did not start", error);
  }
}

/** Shows the progress of a training until it ends, then what it predicts. */
export async function watchTraining(started = false) {
  const told = await get("/api/refit").catch(() => null);
  if (!told) return setTimeout(watchTraining, 2000, started); // the poll says that the server is lost
  const bar = byId("training-progress");
  byId("training").hidden = !told.running;
  byId("training-line").textContent = told.line || "Training";
  if (told.progress === null) bar.removeAttribute("value");
  else bar.value = told.progress;
  drawTraining();
  if (told.running) return setTimeout(watchTraining, 700, true);
  if (told.error) return say(`The training failed: ${told.error}`, true);
  if (!started) return undefined;
  store.state = await get("/api/state");
  forget();
  await go(perLabel() ? { offset: 0 } : {});
  return say("The model has predicted all images: they are sorted by the new probabilities.");
}

function drawTraining() {
  const { refit } = store.state;
  byId("refit").hidden = store.state.read_only || !refit.kind;
  byId("refit").disabled = !refit.available || !byId("training").hidden;
  byId("refit").title = refit.reason || (refit.kind === "head" ? "Trains the last layer: seconds" : "Trains the model, in the background");
}

export function draw() {
  const { title } = store.state;
  byId("title").textContent = title;
  document.title = `${store.place.label === null ? title : nameOf(store.place.label)}: labelr review`;
  drawLabels();
  drawFilters();
  drawProgress();
}

/** Shows what answers change: how much is reviewed and saved, and whether there is something to undo or to learn. */
export function drawProgress() {
  const { undo: undoSteps, redo: redoSteps, read_only: readOnly } = store.state;
  drawCounts();
  drawSaving();
  drawTraining();
  byId("undo").disabled = !undoSteps || readOnly;
  byId("redo").disabled = !redoSteps || readOnly;
}

export function start() {
  listenToFilters();
  queue.listener = drawSaving;
  onClick({ undo, redo, refit: train, menu: toggleMenu, "save-again": () => queue.retry() });
}
