// Plots of the last minutes. They can be pointed at, or walked through by the arrow keys, to read a moment.

import { NONE, bytesRate, drawn, element, plain, rate, span, text, time } from "./format.js";
import { areas, lines, runs } from "./lanes.js";

const WINDOW_S = 240;
const HEIGHT = 190;
const MARGIN = { top: 10, right: 8, bottom: 24, left: 66 };

/** What is plotted: its title, its lines by role, and how its values are said. */
const CHARTS = [
  {
    title: "Throughput",
    caption: "Bytes from and to clients, all cores together.",
    say: bytesRate,
    series: [["first", "in", "bytesIn"], ["second", "out", "bytesOut"]],
    hasArea: true,
  },
  {
    title: "Records",
    caption: "Appended, and returned by fetches.",
    say: rate,
    series: [["first", "in", "recordsIn"], ["second", "out", "recordsOut"]],
    hasArea: true,
  },
  {
    title: "Latency",
    caption: "Of produces as they are answered; p99 of flushes.",
    say: time,
    series: [["first", "p99", "p99"], ["median", "p50", "p50"], ["second dashed", "flush", "flushP99"]],
    isLogarithmic: true,
  },
];

/** The least of 1, 2, 2.5 and 5 with as many zeros as needed that is no less. */
function roundUp(value) {
  const ten = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * ten).find((step) => step >= value * 0.999999);
}

/** A linear axis from nothing to more than the largest value. */
function linear(values) {
  const step = roundUp(Math.max(1, ...values) / 4);
  const steps = Math.max(1, Math.ceil(Math.max(1, ...values) / step));
  const ticks = Array.from({ length: steps + 1 }, (_, at) => at * step);
  return { ticks, share: (value) => value / (step * steps) };
}

/** A logarithmic axis of whole powers of ten around all values. */
function logarithmic(values) {
  const known = values.filter((value) => value > 0);
  const low = Math.floor(Math.log10(known.length > 0 ? Math.min(...known) : 100));
  const high = Math.max(low + 1, Math.ceil(Math.log10(known.length > 0 ? Math.max(...known) : 100_000)));
  const ticks = Array.from({ length: high - low + 1 }, (_, at) => 10 ** (low + at));
  return { ticks, share: (value) => (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low) };
}

/** One plot. */
class Chart {
  constructor(about) {
    this.about = about;
    this.moments = [];
    this.now = 0;
    this.pointed = null;
    this.place = element("div", { className: "plot", tabindex: "0", role: "img" });
    this.when = element("span", { className: "when" });
    this.values = about.series.map(() => element("b"));
    const legend = about.series.map(([role, name], at) =>
      element("li", { className: `key ${role}` }, `${name}\u00a0`, this.values[at]));
    const id = `chart-${about.title.toLowerCase()}`;
    this.root = element("section", { "aria-labelledby": id },
      element("h2", { id, text: about.title }),
      element("p", { className: "caption", text: about.caption }),
      element("ul", { className: "legend" }, ...legend, element("li", {}, this.when)),
      this.place);
    this.listen();
  }

  listen() {
    this.place.addEventListener("pointermove", (event) => {
      const box = this.place.getBoundingClientRect();
      const share = (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right);
      this.point((1 - Math.min(1, Math.max(0, share))) * WINDOW_S);
    });
    for (const end of ["pointerleave", "blur"]) this.place.addEventListener(end, () => this.point(null));
    this.place.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: 1, ArrowRight: -1, PageUp: 10, PageDown: -10 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.point(Math.min(WINDOW_S, Math.max(0, (this.pointed ?? 0) + step)));
    });
    new ResizeObserver(() => this.draw()).observe(this.place);
  }

  /** Reads the moment so many seconds ago; nothing reads the last one. */
  point(ago) {
    this.pointed = ago;
    this.draw();
  }

  update(past, now) {
    this.moments = past.last(WINDOW_S);
    this.now = now;
    this.draw();
  }

  /** The moment that is read. */
  read() {
    const real = this.moments.filter((moment) => !moment.isGap);
    if (this.pointed === null) return real.at(-1);
    const wanted = this.now - this.pointed;
    const far = (moment) => Math.abs(moment.at - wanted);
    return real.reduce((best, moment) => (best && far(best) <= far(moment) ? best : moment), undefined);
  }

  draw() {
    const { series, say: shown, hasArea, isLogarithmic } = this.about;
    const width = this.place.clientWidth;
    if (width === 0) return;
    const all = this.moments.filter((moment) => !moment.isGap);
    const values = series.flatMap(([, , name]) => all.map((moment) => moment[name] ?? 0));
    const axis = (isLogarithmic ? logarithmic : linear)(values);
    const right = width - MARGIN.right;
    const bottom = HEIGHT - MARGIN.bottom;
    const x = (at) => right + ((right - MARGIN.left) * (at - this.now)) / WINDOW_S;
    const y = (value) => bottom - (bottom - MARGIN.top) * axis.share(value);
    const grid = axis.ticks.flatMap((tick) => [
      drawn("path", { class: "grid", d: `M${MARGIN.left} ${y(tick).toFixed(1)}H${right}` }),
      label(MARGIN.left - 8, y(tick) + 4, "end", text(plain(shown(tick)))),
    ]);
    const times = [240, 120, 0].map((ago) => label(x(this.now - ago), HEIGHT - 6,
      ago === 0 ? "end" : ago === 240 ? "start" : "middle", ago === 0 ? "now" : `${span(ago)} ago`));
    const clip = { x: MARGIN.left, y: 0, width: right - MARGIN.left, height: HEIGHT };
    const plane = drawn("svg", { ...clip, viewBox: `${clip.x} 0 ${clip.width} ${HEIGHT}` });
    for (const [role, , name] of [...series].reverse()) {
      const lengths = runs(this.moments, (moment) => moment[name]);
      if (hasArea && name === series[0][2]) {
        plane.append(drawn("path", { class: `area ${role}`, d: areas(lengths, x, y) }));
      }
      plane.append(drawn("path", { class: `line ${role}`, d: lines(lengths, x, y) }));
    }
    const read = this.read();
    if (this.pointed !== null && read) {
      plane.append(drawn("path", { class: "cursor", d: `M${x(read.at).toFixed(1)} ${MARGIN.top}V${bottom}` }));
    }
    const box = { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, "aria-hidden": "true" };
    this.place.replaceChildren(drawn("svg", box, ...grid, ...times, plane));
    this.tell(read);
  }

  tell(read) {
    const { series, say: shown, title } = this.about;
    const said = series.map(([, name, of]) => [name, read ? text(shown(read[of])) : NONE]);
    said.forEach(([, value], at) => { this.values[at].textContent = value; });
    const ago = read ? Math.round(this.now - read.at) : 0;
    this.when.textContent = this.pointed !== null && read ? `${span(ago)} ago` : "";
    const words = said.map(([name, value]) => `${name} ${value}`).join(", ");
    this.place.setAttribute("aria-label", `${title} ${this.when.textContent}: ${words}`);
  }
}

function label(x, y, anchor, said) {
  const made = drawn("text", { class: "label", x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor });
  made.textContent = said;
  return made;
}

/** All plots, in their place. */
export class Charts {
  constructor(place) {
    this.charts = CHARTS.map((about) => new Chart(about));
    place.append(...this.charts.map((chart) => chart.root));
  }

  update(view, past) {
    for (const chart of this.charts) chart.update(past, view.taken_us / 1e6);
  }
}
