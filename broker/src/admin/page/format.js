// Numbers as people read them, and the elements that they stand in.

/** What is shown where there is no number. */
export const NONE = "–";

const grouped = new Intl.NumberFormat("en");

/** A number to three significant digits, without a trailing point. */
function digits(value) {
  if (value === 0) return "0";
  if (value < 9.995) return value.toFixed(2);
  return value < 99.95 ? value.toFixed(1) : value.toFixed(0);
}

/** A value in the largest unit of which it has at least one, as value and unit. */
function scaled(value, base, units) {
  let step = 0;
  // What would be rounded up to the next unit is said in that.
  while (value >= base - 0.5 && step < units.length - 1) {
    value /= base;
    step += 1;
  }
  const isWhole = step === 0 && (value >= 100 || Number.isInteger(value));
  return [isWhole ? value.toFixed(0) : digits(value), units[step]];
}

const known = (value, shown) => (value === null || value === undefined ? [NONE, ""] : shown(value));

/** Bytes per second. */
export const bytesRate = (value) => known(value, (it) => scaled(it, 1000, ["B/s", "kB/s", "MB/s", "GB/s"]));

/** Bytes of memory or of files. */
export const bytes = (value) => known(value, (it) => scaled(it, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]));

/** How many, per second. */
export const rate = (value) => known(value, (it) => scaled(it, 1000, ["/s", "k/s", "M/s", "G/s"]));

/** How many, in short. */
export const short = (value) => known(value, (it) => scaled(it, 1000, ["", "k", "M", "G"]));

/** Microseconds. */
export const time = (value) => known(value, (it) => scaled(it, 1000, ["µs", "ms", "s"]));

/** A number with all its digits. */
export const count = (value) => (value === null || value === undefined ? NONE : grouped.format(value));

/** A share of one. */
export const percent = (value) => known(value, (it) => [(it * 100).toFixed(0), "%"]);

/** The same of a round number, without the zeros that say how exact it is. */
export const plain = ([value, unit]) => [value.includes(".") ? value.replace(/\.?0+$/, "") : value, unit];

/** Value and unit as one text. A unit that begins like `k/s` belongs to the number. */
export function text([value, unit]) {
  if (unit === "" || value === NONE) return value;
  return /^[kMG]?(\/s)?$/.test(unit) ? value + unit : `${value}\u00a0${unit}`;
}

/** How many of something: `1 topic`, `2 topics`. */
export const many = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

/** How long something has gone on. */
export function span(seconds) {
  const whole = Math.floor(seconds);
  const parts = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  if (first < 0) return "0 s";
  const shown = parts.slice(first, first + 2).filter(([value]) => value > 0);
  return shown.map(([value, unit]) => `${value} ${unit}`).join(" ");
}

/** An element with a class, text, and what is in it. Text is never taken for markup. */
export function element(tag, { className, text: said, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (said !== undefined) made.textContent = said;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** The same of a drawing. */
export function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Changes a text only where it is another one, so that nothing is laid out anew for nothing. */
export function say(node, said) {
  if (node.textContent !== said) node.textContent = said;
}

/** A legend's entry. */
export const key = (role, name) => element("li", { className: `key ${role}`, text: name });
