// Tables whose rows stay: lines are kept by key and moved, cells are patched when their text changes, lines that fall
// out are used again. Headers may sort; a row may be picked, or opened to show more.

import { attr, el, set } from "./dom.js";

const order = (a, b) => (typeof a === "string" ? a.localeCompare(b) : (a ?? -1) - (b ?? -1));

export class Table {
  // caption; key(row); sort: label of a column, or none; sinks(row): stays below whatever the order is; mark(row): class
  // of the line; pick(row) with active(row), or detail(row) that returns a node.
  constructor(node, options) {
    Object.assign(this, { node, descending: true, sinks: () => false, mark: () => "" }, options);
    this.picks = Boolean(this.pick || this.detail);
    node.onclick = ({ target }) => {
      const { row } = target.closest("tr") ?? {};
      // Whoever selects text does not mean to click.
      if (row && getSelection().type !== "Range") this.choose(row);
    };
  }

  // columns: [{label, class, title, value(row), format, make(cell), fill(cell, row)}]; `shape` names this set of them.
  shape(shape, columns) {
    if (shape === this.shaped) return;
    Object.assign(this, { shaped: shape, columns, lines: new Map(), open: null, body: el("tbody"), foot: el("tfoot") });
    this.heads = columns.map((column) => {
      const name = column.title ? el("abbr", { title: column.title }, column.label) : column.label;
      const onclick = () => this.sortBy(column);
      return el("th", { scope: "col", class: column.class }, this.sort ? el("button", { onclick }, name) : name);
    });
    this.node.replaceChildren(el("caption", { class: "sr" }, this.caption), el("thead", {}, el("tr", {}, ...this.heads)), this.body, this.foot);
  }

  sortBy({ label, class: numeric }) {
    this.descending = this.sort === label ? !this.descending : Boolean(numeric);
    this.sort = label;
    this.update(this.rows, this.total);
  }

  update(rows, total) {
    Object.assign(this, { rows, total });
    if (this.sort) {
      const by = this.columns.find(({ label }) => label === this.sort) ?? this.columns[1];
      const sign = this.descending ? -1 : 1;
      rows = [...rows].sort((a, b) => this.sinks(a) - this.sinks(b) || sign * order(by.value(a), by.value(b)));
      this.columns.forEach((column, index) =>
        attr(this.heads[index], "aria-sort", column === by ? (this.descending ? "descending" : "ascending") : null));
    }
    const wanted = new Map(rows.map((row) => [this.key(row), row]));
    const free = [];
    for (const [key, line] of this.lines) {
      if (wanted.has(key)) continue;
      if (this.open?.key === key) this.close();
      this.lines.delete(key);
      free.push(line);
    }
    let at = this.body.firstChild;
    for (const [key, row] of wanted) {
      const line = this.lines.get(key) ?? free.pop() ?? this.line(this.picks);
      this.lines.set(key, line);
      this.fill(line, row);
      if (line === at) at = at.nextSibling;
      else this.body.insertBefore(line, at);
      if (this.open?.key !== key) continue;
      if (line.nextSibling !== this.open.line) line.after(this.open.line);
      if (at === this.open.line) at = at.nextSibling;
    }
    for (const line of free) line.remove();
    if (total && !this.foot.firstChild) this.foot.append(this.line(false));
    if (total) this.fill(this.foot.firstChild, total);
    this.foot.hidden = !total;
  }

  // The whole line is a target for the mouse; the button in its first cell is the one for the keyboard.
  line(picks) {
    const line = el("tr");
    line.slots = this.columns.map((column, index) => {
      const cell = el(index ? "td" : "th", { scope: index ? null : "row", class: column.class });
      const slot = index || !picks ? cell : (line.button = el("button", { class: "pick", [this.pick ? "aria-pressed" : "aria-expanded"]: false }));
      if (slot !== cell) cell.append(slot);
      line.append(cell);
      column.make?.(slot);
      return slot;
    });
    return line;
  }

  fill(line, row) {
    if (this.active && line.button) attr(line.button, "aria-pressed", this.active(row));
    if (line.row === row) return;
    if (line.button) line.row = row;
    attr(line, "class", this.mark(row));
    this.columns.forEach(({ value, format = String, fill }, index) =>
      fill ? fill(line.slots[index], row) : set(line.slots[index], format(value(row))));
  }

  choose(row) {
    if (this.pick) return this.pick(row);
    const key = this.key(row);
    const again = this.open?.key === key;
    this.close();
    const line = this.lines.get(key);
    if (again || !line) return;
    attr(line.button, "aria-expanded", true);
    this.open = { key, button: line.button, line: el("tr", { class: "detail" }, el("td", { colspan: this.heads.filter((head) => head.offsetParent).length }, this.detail(row))) };
    line.after(this.open.line);
  }

  close() {
    if (!this.open) return;
    attr(this.open.button, "aria-expanded", false);
    this.open.line.remove();
    this.open = null;
  }
}
