// Asks for the state of the broker about once a second, and has it drawn.

import { Charts } from "./charts.js";
import { bytes, bytesRate, count, element, many, rate, say, span, text, time } from "./format.js";
import { Lanes } from "./lanes.js";
import { Lists } from "./lists.js";
import { Past, between, opened } from "./rates.js";
import { Standouts } from "./standouts.js";

/** How often the state is asked for, and how long the broker may take: it waits for stuck cores itself. */
const PERIOD_MS = 1000;
const PATIENCE_MS = 10_000;

/** Where answers take long, the broker and this machine rest for longer in between, but not for longer than this. */
const PAUSE_MS_MAX = 4000;
const PACE = 2;

/** A connection may end while it is used. That the broker does not answer is said after so many failures. */
const FAILURES_MAX = 2;

const PHASES = {
  connecting: "looking …",
  serving: "serving",
  degraded: "serving in part",
  starting: "starting",
  draining: "about to stop",
  silent: "no answer",
  paused: "paused",
};

const part = (id) => document.getElementById(id);
const past = new Past();
const lanes = new Lanes(part("lanes"), part("lanes-legend"));
const charts = new Charts(part("charts"));
const lists = new Lists(part("topics"), part("groups"), () => soon());
const standouts = new Standouts(part("partitions"), part("partitions-caption"), (topic, partition) =>
  lists.goTo(topic, partition));

let last = null;
let lastAt = 0;
let failures = 0;
let isPaused = false;
let timer = null;
let asking = null;

const TILES = [
  ["in", (total) => bytesRate(total.bytesIn)],
  ["out", (total) => bytesRate(total.bytesOut)],
  ["records in", (total) => rate(total.recordsIn)],
  ["records out", (total) => rate(total.recordsOut)],
  ["produce p50", (total) => time(total.p50)],
  ["produce p99", (total) => time(total.p99)],
  ["flush p99", (total) => time(total.flushP99)],
  ["errors", (total) => rate(total.errorRate)],
].map(([title, of]) => {
  const [value, unit] = [element("span"), element("small")];
  const tile = element("div", {}, element("dt", { text: title }), element("dd", {}, value, unit));
  part("tiles").append(tile);
  return { title, of, tile, value, unit };
});

function showTiles(total) {
  for (const { title, of, tile, value, unit } of TILES) {
    const [number, measure] = of(total);
    say(value, number);
    say(unit, measure === "" ? "" : ` ${measure}`);
    if (title === "errors") tile.classList.toggle("alarm", total.errorRate > 0);
  }
}

function showConditions(view) {
  const { total, process } = view;
  const said = [
    `up ${span(view.taken_us / 1e6)}`,
    many(view.cores.length + view.silent_cores.length, "core"),
    many(total.connections, "connection"),
    many(total.topics, "topic"),
    many(total.partitions, "partition"),
    many(total.groups, "group"),
    `${text(bytes(total.size_bytes))} kept`,
    `${text(bytes(process.resident_bytes))} resident`,
  ];
  const list = part("conditions");
  while (list.children.length < said.length) list.append(element("li"));
  said.forEach((condition, at) => say(list.children[at], condition));
}

/** Sets what is to be noticed; only a change is read out again. */
function notice(alarms, hints) {
  const box = part("notices");
  const said = JSON.stringify([alarms, hints]);
  if (box.dataset.said === said) return;
  box.dataset.said = said;
  box.replaceChildren(
    ...alarms.map((alarm) => element("p", { className: "notice alarm", text: alarm })),
    ...hints.map((hint) => element("p", { className: "notice", text: hint })));
}

/** A page that is paused stays so when it is asked for partitions once. */
function enter(found) {
  const state = isPaused && found !== "silent" ? "paused" : found;
  document.body.dataset.state = state;
  say(part("phase"), PHASES[state]);
  const at = last?.bootstrap ? ` ${last.bootstrap}` : "";
  const sign = { degraded: "! ", silent: "! ", paused: "‖ " }[state] ?? "";
  document.title = `${sign}Corelane${at}`;
}

function show(summary) {
  const state = opened(summary);
  if (state.phase === "starting") {
    last = null;
    say(part("about"), `corelane ${state.version}`);
    part("live").hidden = true;
    notice([], state.problems.map(sentence));
    enter("starting");
    return;
  }
  // A state of the same moment says nothing new, unless other partitions are in it.
  const isSame = last?.started_ms === state.started_ms && last.taken_us === state.taken_us;
  const base = isSame ? shown.base : last;
  const view = between(base, state);
  if (!isSame) past.note(view);
  shown.base = base;
  last = state;
  lastAt = performance.now();
  say(part("about"), `corelane ${view.version}, broker ${view.broker_id} of cluster ${view.cluster_id}`);
  say(part("title"), view.bootstrap);
  showConditions(view);
  const isDegraded = view.problems.length > 0 && view.phase === "serving";
  notice(view.problems.map(sentence), view.notices.map(sentence));
  enter(isDegraded ? "degraded" : view.phase);
  part("live").hidden = false;
  showTiles(view.total);
  if (!isSame) {
    lanes.update(view, past);
    charts.update(view, past);
  }
  standouts.update(view);
  lists.update(view);
}

/** What the last view was compared with. */
const shown = { base: null };

const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1) + (words.endsWith(".") ? "" : ".");

/** The broker gave no state: whoever was there before is still shown, and said to be old. */
function fail(reason) {
  failures += 1;
  if (failures < FAILURES_MAX) return;
  const old = last ? ` What is shown is ${span((performance.now() - lastAt) / 1000)} old.` : "";
  notice([`The broker ${reason}. It is asked again every second.${old}`], []);
  enter("silent");
}

function address() {
  const asked = new URLSearchParams({ form: "summary" });
  for (const [name, value] of Object.entries(lists.wanted())) {
    if (value !== null) asked.set(name, value);
  }
  return `v1/state?${asked}`;
}

async function ask() {
  const mine = new AbortController();
  asking = mine;
  const began = performance.now();
  const patience = setTimeout(() => mine.abort(), PATIENCE_MS);
  try {
    const answer = await fetch(address(), { signal: mine.signal, cache: "no-store" });
    const isState = answer.ok;
    const said = isState ? await answer.json() : await answer.text();
    if (asking !== mine) return;
    if (isState) {
      failures = 0;
      show(said);
    } else {
      fail(`gives no state: ${said.trim().replace(/\.$/, "")}`);
    }
  } catch (error) {
    if (asking !== mine) return;
    fail(mine.signal.aborted ? `has not answered for ${PATIENCE_MS / 1000} s` : "does not answer");
    if (!(error instanceof TypeError) && !mine.signal.aborted) console.error(error);
  } finally {
    clearTimeout(patience);
  }
  const took = performance.now() - began;
  wait(failures === 1 ? 100 : Math.max(PERIOD_MS - took, Math.min(PACE * took, PAUSE_MS_MAX)));
}

function wait(ms) {
  clearTimeout(timer);
  timer = isPaused || document.hidden ? null : setTimeout(ask, Math.max(50, ms));
}

/** Gives up the question that is on its way, and those to come. */
function stop() {
  clearTimeout(timer);
  timer = null;
  const mine = asking;
  asking = null;
  mine?.abort();
}

/** Asks at once, since something else is wanted: a paused page once. */
function soon() {
  if (document.hidden) return;
  stop();
  ask();
}

function pause() {
  isPaused = !isPaused;
  part("pause").setAttribute("aria-pressed", String(isPaused));
  say(part("pause"), isPaused ? "Go on" : "Pause");
  if (isPaused) {
    stop();
    enter("paused");
  } else {
    soon();
  }
}

part("pause").addEventListener("click", pause);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stop();
  else if (!isPaused) soon();
});
document.addEventListener("keydown", (event) => {
  const isTyping = event.target instanceof HTMLInputElement;
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) {
    if (event.key === "Escape" && isTyping) event.target.blur();
    return;
  }
  if (event.key === "p") pause();
  if (event.key === "/") {
    event.preventDefault();
    lists.find();
  }
});
soon();
