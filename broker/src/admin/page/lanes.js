// The lanes: one for each core, in which its load flows from now, at the right, into the past.

import {
  NONE, bytes, bytesRate, count, drawn, element, key, many, percent, plain, rate, say, short, text, time,
} from "./format.js";

/** Seconds that a lane shows. */
const WINDOW_S = 120;

/** A lane is drawn on a plane of this width, and 100 high, that is stretched to its place. */
const WIDTH = 1000;

/** Where in a lane the busy share is, its mark, and its traffic: from the top to the bottom. */
const BUSY = { top: 5, bottom: 62 };
const MARK = 70;
const TRAFFIC = { top: 77, bottom: 96 };

/** Seconds of a stroke of the mark and of the room between two. */
const STROKE_S = 4;

/** More lanes than this are drawn lower, so that many fit a screen. */
const TALL_MAX = 8;

/** An animation that is late by more than this is not worth being seen. */
const FLOW_MS_MAX = 3000;

const FIGURES = [
  ["in", (core) => text(bytesRate(core.bytesIn))],
  ["out", (core) => text(bytesRate(core.bytesOut))],
  ["requests", (core) => text(rate(core.requestRate))],
  ["produce p99", (core) => text(time(core.p99))],
  ["flush p99", (core) => text(time(core.flushP99))],
  ["queue", (core) => count(core.waiting_produces + core.paced_waiting + core.mail_queued)],
];

const isStill = matchMedia("(prefers-reduced-motion: reduce)");

/** Numbers of a path need no more digits than a screen has points. */
const point = (x, y) => `${x.toFixed(1)} ${y.toFixed(1)}`;

/** Runs of moments that have a value, one after the other. */
export function runs(moments, of) {
  const all = [];
  let run = [];
  for (const moment of moments) {
    const value = moment.isGap ? null : of(moment);
    if (value === null || value === undefined) {
      if (run.length > 0) all.push(run);
      run = [];
    } else {
      run.push([moment.at, value]);
    }
  }
  if (run.length > 0) all.push(run);
  return all;
}

/** Lines through all runs, as the text of a path. */
export function lines(all, x, y) {
  return all.map((run) => `M${run.map(([at, value]) => point(x(at), y(value))).join("L")}`).join("");
}

/** The areas under them. */
export function areas(all, x, y) {
  const area = (run) => {
    const [first, last] = [run[0][0], run.at(-1)[0]];
    const over = run.map(([at, value]) => point(x(at), y(value))).join("L");
    return `M${point(x(first), y(0))}L${over}L${point(x(last), y(0))}Z`;
  };
  return all.map(area).join("");
}

/** One core's lane. */
class Lane {
  constructor(number) {
    this.busy = element("span");
    this.about = element("p", { className: "lane-about" });
    const name = element("div", { className: "lane-name" },
      element("h3", { text: `core ${number}` }),
      element("p", { className: "busy" }, this.busy, element("small", { text: "% busy" })),
      this.about);
    const line = (className) => drawn("path", { class: className, "vector-effect": "non-scaling-stroke" });
    this.paths = {
      area: drawn("path", { class: "busy-area" }),
      mark: line("mark"),
      in: line("first"),
      out: line("second"),
      line: line("busy-line"),
    };
    const plane = { viewBox: `0 0 ${WIDTH} 100`, preserveAspectRatio: "none", "aria-hidden": "true" };
    this.flow = drawn("svg", { class: "flow", ...plane }, ...Object.values(this.paths));
    const level = (y, className) => drawn("path", {
      d: `M0 ${y}H${WIDTH}`, class: className, "vector-effect": "non-scaling-stroke",
    });
    const levels = drawn("svg", { class: "levels", ...plane },
      level(BUSY.top, "grid"), level((BUSY.top + BUSY.bottom) / 2, "grid"), level(BUSY.bottom, "grid"));
    const scale = [["all", BUSY.top], ["half", (BUSY.top + BUSY.bottom) / 2]].map(([name, y]) => {
      const said = element("span", { text: name });
      said.style.top = `${y}%`;
      return said;
    });
    this.road = element("div", { className: "road", role: "img" }, levels, this.flow,
      element("div", { className: "scale", "aria-hidden": "true" }, ...scale));
    this.figures = FIGURES.map(() => element("dd"));
    const pairs = FIGURES.map(([title], at) => element("div", {}, element("dt", { text: title }), this.figures[at]));
    this.ledger = element("div", { className: "ledger", "aria-hidden": "true" });
    this.parts = new Map();
    this.memory = element("p", { className: "small" });
    this.waits = element("p", { className: "small" });
    this.compaction = element("p", { className: "small" });
    const side = element("div", { className: "side" },
      element("dl", { className: "figures" }, ...pairs), this.waits, this.compaction, this.ledger,
      this.memory);
    this.root = element("li", { className: "lane" }, name, this.road, side);
  }

  /** Shows a core, its past, and the traffic that fills a lane. */
  show(core, moments, now, most) {
    const x = (at) => WIDTH * (1 + (at - now) / WINDOW_S);
    const within = ({ top, bottom }, share) => bottom - (bottom - top) * Math.min(1, share);
    const of = (name) => runs(moments, (moment) => moment.lanes.get(core.core)?.[name]);
    const busy = of("busy");
    this.paths.area.setAttribute("d", areas(busy, x, (share) => within(BUSY, share)));
    this.paths.line.setAttribute("d", lines(busy, x, (share) => within(BUSY, share)));
    const traffic = (value) => within(TRAFFIC, value / most);
    this.paths.in.setAttribute("d", lines(of("bytesIn"), x, traffic));
    this.paths.out.setAttribute("d", lines(of("bytesOut"), x, traffic));
    this.paths.mark.setAttribute("d", mark(x, now));
    say(this.busy, percent(core.busy)[0]);
    say(this.about, `${many(core.partitions, "partition")}\n${many(core.connections, "connection")}`);
    FIGURES.forEach(([, shown], at) => say(this.figures[at], shown(core)));
    const [p, f, b, m] = [core.waiting_produces, core.waiting_fetches, core.paced_waiting, core.mail_queued].map(count);
    say(this.waits, `waiting: produces ${p}, fetches ${f}, paced ${b}, mail ${m}`);
    this.showCompaction(core.compaction);
    this.showMemory(core);
    const said = FIGURES.map(([title, shown]) => `${title} ${shown(core)}`).join(", ");
    this.road.setAttribute("aria-label", `core ${core.core}: ${text(percent(core.busy))} busy, ${said}`);
    this.root.classList.toggle("hot", core.busy !== null && core.busy > 0.95);
  }

  /** Shows what compaction does, where it has ever had something to do. */
  showCompaction({ read, readRate, removed }) {
    this.compaction.hidden = read === 0;
    const now = readRate > 0 ? `${text(bytesRate(readRate))} read` : "at rest";
    say(this.compaction, `compaction: ${now}, ${text(short(removed))} records left out`);
  }

  showMemory(core) {
    const used = core.memory.filter(([, size]) => size > 0);
    for (const [use, size] of core.memory) {
      let part = this.parts.get(use);
      if (!part) {
        part = element("span", { className: `use-${use}` });
        this.parts.set(use, part);
        this.ledger.append(part);
      }
      part.style.width = `${(100 * size) / core.memory_cap}%`;
      part.hidden = size === 0;
    }
    const largest = [...used].sort(([, one], [, other]) => other - one).slice(0, 2);
    const uses = largest.map(([use, size]) => `${use.replace("_", " ")} ${text(plain(bytes(size)))}`).join(", ");
    const share = text(percent(core.memory_cap > 0 ? core.memoryUsed / core.memory_cap : null));
    say(this.memory, `memory ${share} of ${text(plain(bytes(core.memory_cap)))}${uses === "" ? "" : `: ${uses}`}`);
  }

  /** Shows a core that does not answer. */
  showSilent() {
    say(this.busy, NONE);
    say(this.about, "does not answer");
  }
}

/** Strokes of the mark in the middle of a lane, at their places in time, so that they flow with it. */
function mark(x, now) {
  const every = 2 * STROKE_S;
  let path = "";
  for (let at = Math.floor((now - WINDOW_S) / every - 1) * every; at < now; at += every) {
    path += `M${x(at).toFixed(1)} ${MARK}H${Math.min(x(at + STROKE_S), WIDTH).toFixed(1)}`;
  }
  return path;
}

/** All lanes of a broker. */
export class Lanes {
  constructor(list, legend) {
    this.list = list;
    this.lanes = new Map();
    legend.append(key("median", "busy, up to all of a CPU"), key("first", "in"), key("second", "out"));
    this.most = element("li", { className: "most" });
    legend.append(this.most);
    this.times = element("li", { className: "times", "aria-hidden": "true" }, element("div", {},
      element("span", { text: "2 min ago" }), element("span", { text: "1 min" }), element("span", { text: "now" })));
    list.append(this.times);
  }

  update(view, past) {
    const silent = view.silent_cores.map((core) => ({ core, isSilent: true }));
    const cores = [...view.cores, ...silent].sort((one, other) => one.core - other.core);
    this.arrange(cores.map((core) => core.core));
    const moments = past.last(WINDOW_S);
    const traffic = moments.flatMap((moment) => [...(moment.lanes?.values() ?? [])]);
    const most = Math.max(1, ...traffic.map((lane) => Math.max(lane.bytesIn ?? 0, lane.bytesOut ?? 0)));
    say(this.most, most > 1 ? `traffic up to ${text(bytesRate(most))}` : "");
    const now = view.taken_us / 1e6;
    for (const core of cores) {
      const lane = this.lanes.get(core.core);
      lane.root.classList.toggle("silent", core.isSilent === true);
      if (core.isSilent) lane.showSilent();
      else lane.show(core, moments, now, most);
      if (view.seconds !== null) flow(lane.flow, view.seconds);
    }
  }

  /** Makes the lanes that are missing, and takes away those of cores that are not there any more. */
  arrange(numbers) {
    const isSame = numbers.length === this.lanes.size && numbers.every((number) => this.lanes.has(number));
    if (isSame) return;
    const old = this.lanes;
    this.lanes = new Map(numbers.map((number) => [number, old.get(number) ?? new Lane(number)]));
    this.list.replaceChildren(...[...this.lanes.values()].map((lane) => lane.root), this.times);
    this.list.classList.toggle("low", numbers.length > TALL_MAX);
  }
}

/** Lets a lane glide to where it is now, in the time in which the next state comes. */
function flow(plane, seconds) {
  const took = seconds * 1000;
  if (isStill.matches || took > FLOW_MS_MAX) return;
  const from = `translateX(${(100 * seconds) / WINDOW_S}%)`;
  plane.animate([{ transform: from }, { transform: "none" }], { duration: took, easing: "linear" });
}
