// Tables whose rows stay: cells are patched when their text changes, rows move by key, headers sort.

import { el, set } from "./dom.js";

export class Table {
  // columns: [{key, label, title, text(row), value(row) to sort by, num, opt, cell(td, row), header}]
  constructor(table, { columns, sort, descending = true, key, pick, active, caption }) {
    Object.assign(this, { table, columns, sort, descending, key, pick, active });
    this.rows = new Map();
    this.body = el("tbody");
    this.foot = el("tfoot");
    this.heads = columns.map((column) => {
      const name = column.title ? el("abbr", { title: column.title }, column.label) : column.label;
      const classes = [column.num && "num", column.opt && "opt"].filter(Boolean).join(" ") || null;
      if (!column.value) return el("th", { scope: "col", class: classes }, name);
      const button = el("button", { onclick: () => this.sortBy(column) }, name);
      return el("th", { scope: "col", class: classes }, button);
    });
    table.replaceChildren(el("caption", { class: "sr" }, caption), el("thead", {}, el("tr", {}, ...this.heads)), this.body, this.foot);
    this.showSort();
  }

  sortBy(column) {
    this.descending = this.sort === column.key ? !this.descending : Boolean(column.num);
    this.sort = column.key;
    this.showSort();
    if (this.data) this.update(this.data, this.total);
  }

  showSort() {
    this.columns.forEach((column, index) => {
      if (column.key !== this.sort) this.heads[index].removeAttribute("aria-sort");
      else this.heads[index].setAttribute("aria-sort", this.descending ? "descending" : "ascending");
    });
  }

  // `total` is a row for the foot, or nothing. Rows that `last` sinks stay below whatever the order is.
  update(data, total = null, last = () => false) {
    this.data = data;
    this.total = total;
    this.last = last;
    const by = this.columns.find((column) => column.key === this.sort);
    const sign = this.descending ? -1 : 1;
    const sorted = by
      ? [...data].sort((a, b) => last(a) - last(b) || sign * compare(by.value(a), by.value(b)))
      : data;
    const seen = new Set();
    let at = this.body.firstChild;
    for (const row of sorted) {
      const key = this.key(row);
      seen.add(key);
      let line = this.rows.get(key);
      if (!line) {
        line = this.line();
        this.rows.set(key, line);
      }
      this.fill(line, row);
      if (line === at) at = at.nextSibling;
      else this.body.insertBefore(line, at);
    }
    for (const [key, line] of this.rows) {
      if (seen.has(key)) continue;
      line.remove();
      this.rows.delete(key);
    }
    this.foot.hidden = !total;
    if (!total) return;
    if (!this.foot.firstChild) this.foot.append(this.line(true));
    this.fill(this.foot.firstChild, total);
  }

  line(plain = false) {
    const line = el("tr");
    line.cells_ = this.columns.map((column, index) => {
      const cell = el(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : null, class: [column.num && "num", column.opt && "opt"].filter(Boolean).join(" ") || null });
      // The whole row is a target for the mouse, its name is the one for the keyboard.
      if (index === 0 && this.pick && !plain) {
        cell.name_ = el("button", { class: "pick", "aria-pressed": "false" });
        cell.append(cell.name_);
      }
      line.append(cell);
      return cell;
    });
    if (this.pick && !plain) {
      line.className = "picks";
      line.addEventListener("click", () => this.pick(line.row_));
    }
    return line;
  }

  fill(line, row) {
    line.row_ = row;
    this.columns.forEach((column, index) => {
      const cell = line.cells_[index];
      if (column.cell) column.cell(cell, row, line);
      else set(cell.name_ ?? cell, column.text(row));
    });
    const name = line.cells_[0].name_;
    if (!name) return;
    const on = Boolean(this.active?.(row));
    if (line.on_ === on) return;
    line.on_ = on;
    line.classList.toggle("on", on);
    name.setAttribute("aria-pressed", on);
  }
}

function compare(a, b) {
  if (typeof a === "string") return a < b ? -1 : a > b ? 1 : 0;
  return (a ?? -1) - (b ?? -1);
}
