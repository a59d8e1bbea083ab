// A table of rows that change all the time: found by a filter, ordered by a column, a page at a time. However many
// rows there are, only those of one page are elements.

import { count, element, say } from "./format.js";

/**
 * Columns have a `title`, how a row is `shown` in them (a text), and by what it is ordered (`by`, a text or a number;
 * null comes last). `isMinor` columns are left out on narrow screens, `mark` gives a cell a class.
 */
export class LiveTable {
  /**
   * @param about `name` of what is listed, `columns`, `keyOf` a row, `rows` of a page, `empty` (what is said without
   *   any), `order` (the first one: column and whether it falls), and, where rows open, `open(key)`, which gives what
   *   is shown below the row, and `close()`; where they lead elsewhere, `choose(key)`. `isPlain` tables have no
   *   filter.
   */
  constructor(about) {
    this.about = about;
    this.rows = [];
    this.ordered = [];
    this.page = 0;
    this.sought = "";
    this.order = about.order;
    this.opened = null;
    this.marked = null;
    this.shown = new Map();
    this.build();
  }

  build() {
    const { name, columns } = this.about;
    this.filter = element("input", {
      type: "search", placeholder: `find ${name}`, "aria-label": `find ${name}`, autocomplete: "off", spellcheck: "false",
    });
    this.filter.addEventListener("input", () => {
      this.sought = this.filter.value.trim().toLowerCase();
      this.page = 0;
      this.arrange();
    });
    this.where = element("span", { className: "where", role: "status" });
    this.back = element("button", { type: "button", text: "‹", "aria-label": `earlier ${name}` });
    this.onward = element("button", { type: "button", text: "›", "aria-label": `more ${name}` });
    this.back.addEventListener("click", () => this.turn(-1));
    this.onward.addEventListener("click", () => this.turn(1));
    this.pager = element("div", { className: "pager" }, this.where, this.back, this.onward);
    this.heads = columns.map((column, at) => this.head(column, at));
    this.body = element("tbody");
    const table = element("table", { "aria-label": name },
      element("thead", {}, element("tr", {}, ...this.heads)), this.body);
    this.nothing = element("p", { className: "caption nothing" });
    this.root = element("div", { className: "listing" },
      element("div", { className: "tools" }, this.filter, this.pager),
      element("div", { className: "scroll" }, table), this.nothing);
  }

  head(column, at) {
    const button = element("button", { type: "button", text: column.title });
    button.addEventListener("click", () => {
      const isSame = this.order.column === at;
      // Names rise at first, numbers fall: the largest are what is looked for.
      this.order = { column: at, falls: isSame ? !this.order.falls : !column.isText };
      this.page = 0;
      this.arrange();
    });
    return element("th", { scope: "col", className: classes(column) }, button);
  }

  turn(by) {
    this.page += by;
    this.draw();
  }

  /** Shows these rows from now on. */
  update(rows, leftOut = 0) {
    this.rows = rows;
    this.leftOut = leftOut;
    if (this.isHeld()) this.refresh();
    else this.arrange();
  }

  /** Whether somebody is about to take a row: nothing moves away from below the pointer, or while a row is open. */
  isHeld() {
    const at = document.activeElement;
    return this.opened !== null || this.body.matches(":hover") || (at !== this.body && this.body.contains(at));
  }

  /** Puts new rows where those of the same keys are; further ones come last. */
  refresh() {
    const { keyOf } = this.about;
    const fresh = new Map(this.found().map((row) => [keyOf(row), row]));
    const kept = [];
    for (const row of this.ordered) {
      const key = keyOf(row);
      const now = fresh.get(key);
      if (now) kept.push(now);
      fresh.delete(key);
    }
    this.ordered = [...kept, ...fresh.values()];
    this.draw();
  }

  found() {
    if (this.sought === "") return this.rows;
    return this.rows.filter((row) => this.about.textOf(row).toLowerCase().includes(this.sought));
  }

  /** Orders anew what is found. Rows of which none comes first stay as they came: by name and number. */
  arrange() {
    const { by } = this.about.columns[this.order.column];
    const sign = this.order.falls ? -1 : 1;
    const keyed = this.found().map((row) => [by(row), row]);
    keyed.sort(([one], [other]) => sign * compare(one, other));
    this.ordered = keyed.map(([, row]) => row);
    this.draw();
  }

  draw() {
    const { rows: size, columns, keyOf, name, empty, isPlain = false } = this.about;
    const pages = Math.max(1, Math.ceil(this.ordered.length / size));
    this.page = Math.min(Math.max(0, this.page), pages - 1);
    const first = this.page * size;
    const shown = this.ordered.slice(first, first + size);
    this.heads.forEach((head, at) => {
      const isBy = at === this.order.column;
      head.setAttribute("aria-sort", isBy ? (this.order.falls ? "descending" : "ascending") : "none");
    });
    const keys = shown.map(keyOf);
    if (this.opened !== null && !keys.includes(this.opened)) this.shut();
    this.place(keys);
    shown.forEach((row, at) => this.fill(this.shown.get(keys[at]), row, columns));
    this.pager.hidden = pages === 1 && this.rows.length <= size;
    this.filter.hidden = this.rows.length === 0 || isPlain;
    this.back.disabled = this.page === 0;
    this.onward.disabled = this.page === pages - 1;
    const last = first + shown.length;
    say(this.where, shown.length === 0 ? "" : `${count(first + 1)}–${count(last)} of ${count(this.ordered.length)}`);
    const said = [];
    if (this.rows.length === 0) said.push(empty);
    else if (shown.length === 0) said.push(`No ${name} are called so.`);
    if (this.leftOut > 0) said.push(`${count(this.leftOut)} more ${name} are not listed here; /v1/state has all.`);
    say(this.nothing, said.join(" "));
    this.body.parentElement.hidden = shown.length === 0;
  }

  /** Makes the table's rows those of these keys. Elements stay with their key, so that the focus does. */
  place(keys) {
    const wanted = new Set(keys);
    for (const [key, lines] of this.shown) {
      if (wanted.has(key)) continue;
      lines.row.remove();
      this.shown.delete(key);
    }
    let at = this.body.firstChild;
    for (const key of keys) {
      const lines = this.shown.get(key) ?? this.line(key);
      this.shown.set(key, lines);
      if (lines.row === at) at = at.nextSibling;
      else this.body.insertBefore(lines.row, at);
      if (key !== this.opened) continue;
      if (this.detail === at) at = at.nextSibling;
      else this.body.insertBefore(this.detail, at);
    }
  }

  /** The elements of a row. */
  line(key) {
    const { columns, open, choose } = this.about;
    const cells = columns.map((column, at) => {
      const cell = element(at === 0 ? "th" : "td", { className: classes(column) });
      if (at === 0) cell.scope = "row";
      return cell;
    });
    const texts = [...cells];
    if (open || choose) {
      const button = element("button", { type: "button", className: open ? "open" : "choose" });
      if (open) button.setAttribute("aria-expanded", "false");
      button.addEventListener("click", () => (open ? this.toggle(key) : choose(key)));
      texts[0] = element("bdi");
      button.append(texts[0]);
      cells[0].append(button);
    }
    return { row: element("tr", {}, ...cells), cells, texts };
  }

  fill({ row, cells, texts }, values, columns) {
    columns.forEach((column, at) => {
      say(texts[at], column.shown(values));
      if (column.mark) cells[at].className = `${classes(column)} ${column.mark(values)}`.trim();
    });
    row.classList.toggle("marked", this.marked !== null && this.about.keyOf(values) === this.marked);
    if (this.about.isFaulty) row.classList.toggle("faulty", this.about.isFaulty(values));
  }

  /** Turns to the page that has a row; false if none has. */
  turnTo(key) {
    const at = this.ordered.findIndex((row) => this.about.keyOf(row) === key);
    if (at < 0) return false;
    this.page = Math.floor(at / this.about.rows);
    this.draw();
    return true;
  }

  /** Lists everything again. */
  unfilter() {
    this.filter.value = "";
    this.sought = "";
    this.arrange();
  }

  /** Opens a row wherever it is; false if there is none. */
  reveal(key) {
    if (this.opened !== null) this.shut();
    if (!this.turnTo(key)) this.unfilter();
    if (!this.turnTo(key)) return false;
    this.toggle(key);
    this.shown.get(key).row.querySelector("button").focus({ preventScroll: true });
    return true;
  }

  /** Shows a row among others, and that it was looked for. */
  mark(key) {
    this.marked = key;
    if (!this.turnTo(key)) this.unfilter();
    if (this.turnTo(key)) this.shown.get(key).row.scrollIntoView({ block: "center" });
  }

  toggle(key) {
    if (this.opened === key) {
      this.shut();
    } else {
      if (this.opened !== null) this.shut();
      this.opened = key;
      const cell = element("td", { colspan: this.about.columns.length }, this.about.open(key));
      this.detail = element("tr", { className: "detail" }, cell);
      this.shown.get(key).row.querySelector("button").setAttribute("aria-expanded", "true");
    }
    this.draw();
  }

  /** Shuts the row that is open. */
  shut() {
    this.shown.get(this.opened)?.row.querySelector("button").setAttribute("aria-expanded", "false");
    this.detail.remove();
    this.opened = null;
    this.about.close();
  }
}

const classes = (column) => [column.isText ? "" : "number", column.isMinor ? "minor" : ""].join(" ").trim();

/** The order of two values: texts by their letters, numbers by size, nothing below everything. */
function compare(one, other) {
  if (one === other) return 0;
  if (one === null || one === undefined) return -1;
  if (other === null || other === undefined) return 1;
  return one < other ? -1 : 1;
}
