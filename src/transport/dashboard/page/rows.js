// Lists of requests: the live feed, the last errors, the slowest. Rows are kept by key, one can be open.

import { attr, el, set } from "./dom.js";
import { UNKNOWN, bytes, clock, count, duration, iso, percent, price, speed } from "./format.js";
import { rowKey } from "./store.js";

const COLUMNS = [
  { name: "time", label: "Time" },
  { name: "request", label: "Request" },
  { name: "status", label: "Status" },
  { name: "latency", label: "Latency", num: true },
  { name: "ttfb", label: "TTFB", title: "Time to first byte", num: true, opt: true },
  { name: "model", label: "Provider · model", opt: true, needs: "providers" },
  { name: "user", label: "User", opt: true, needs: "users" },
  { name: "tokens", label: "Tokens in → out", num: true, opt: true, needs: "tokens" },
  { name: "cost", label: "Cost", num: true, opt: true, needs: "cost" },
  { name: "size", label: "Size", title: "Size of the response", num: true, opt: true, instead: "tokens" },
  { name: "message", label: "Message", opt: true },
];

export const tokensPerSecond = (row) => {
  const seconds = (row.latency_ms - (row.ttfb_ms ?? 0)) / 1000;
  return row.output_tokens > 1 && seconds > 0.005 ? row.output_tokens / seconds : null;
};

const statusText = (row) => (row.aborted ? "aborted" : row.status_code === null ? "failed" : String(row.status_code));
const statusClass = (row) => {
  if (row.aborted) return "s-aborted";
  if (row.status_code === null) return "s5";
  const of100 = Math.floor(row.status_code / 100);
  return row.success || of100 >= 4 ? `s${of100}` : "s5";
};

export class Rows {
  // `names`: which columns, in order. `hold(open)` hears whether a row is open.
  constructor(table, { names, caption, hold = () => {}, copied }) {
    Object.assign(this, { table, names, caption, hold, copied });
    this.lines = new Map();
    this.open = null;
    table.addEventListener("click", (event) => {
      const line = event.target.closest("tr");
      if (line?.row_ && String(getSelection()) === "") this.toggle(line.row_);
    });
    // The full time is asked for rarely: it is put where the pointer is.
    table.addEventListener("pointerover", (event) => {
      const line = event.target.closest("tr");
      if (line?.row_) attr(line.cells_[0], "title", `${iso(line.row_.timestamp_ms)} · ${zone()}`);
    });
  }

  // Columns depend on what the host's records carry.
  adapt(capabilities, currency) {
    this.currency = currency;
    const key = JSON.stringify(capabilities);
    if (key === this.adapted) return;
    this.adapted = key;
    this.columns = this.names
      .map((name) => COLUMNS.find((column) => column.name === name))
      .filter(({ needs, instead }) => (!needs || capabilities[needs]) && (!instead || !capabilities[instead]));
    this.lines.clear();
    this.body = el("tbody");
    this.table.replaceChildren(
      el("caption", { class: "sr" }, this.caption),
      el("thead", {}, el("tr", {}, ...this.columns.map((column) =>
        el("th", { scope: "col", class: `${classes(column)} c-${column.name}` }, column.title ? el("abbr", { title: column.title }, column.label) : column.label)))),
      this.body,
    );
  }

  render(list) {
    const wanted = new Map(list.map((row) => [rowKey(row), row]));
    const free = [];
    for (const [key, line] of this.lines) {
      if (wanted.has(key)) continue;
      this.lines.delete(key);
      free.push(line);
    }
    if (this.open && !wanted.has(this.open.key)) this.close();
    let at = this.body.firstChild;
    for (const [key, row] of wanted) {
      let line = this.lines.get(key);
      if (!line) {
        // A line that fell out at the bottom comes back at the top: no nodes are made in the long run.
        line = free.pop() ?? this.line();
        if (line === at) at = at.nextSibling;
        this.fill(line, row);
        this.lines.set(key, line);
      }
      if (line === at) at = at.nextSibling;
      else this.body.insertBefore(line, at);
      if (this.open?.key === key && line.nextSibling !== this.open.line) line.after(this.open.line);
      if (this.open && at === this.open.line) at = at.nextSibling;
    }
    for (const line of free) line.remove();
  }

  line() {
    const line = el("tr", { class: "picks" });
    line.cells_ = this.columns.map((column, index) => {
      const cell = el(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : null, class: `${classes(column)} c-${column.name}` });
      if (index === 0) cell.append((line.button_ = el("button", { class: "pick", "aria-expanded": "false" })));
      if (column.name === "request") cell.append((line.method_ = el("span", { class: "method" })), (line.route_ = el("span")));
      if (column.name === "status") cell.append((line.status_ = el("span")));
      line.append(cell);
      return cell;
    });
    return line;
  }

  fill(line, row) {
    line.row_ = row;
    attr(line.cells_[0], "title", null);
    attr(line, "class", row.success ? "picks" : `picks bad-row ${statusClass(row)}`);
    this.columns.forEach(({ name }, index) => {
      const cell = line.cells_[index];
      if (name === "time") set(line.button_, clock(row.timestamp_ms));
      else if (name === "request") {
        set(line.method_, row.method);
        set(line.route_, row.endpoint);
      } else if (name === "status") {
        set(line.status_, statusText(row));
        attr(line.status_, "class", `code ${statusClass(row)}`);
      } else set(cell, this.text(name, row));
    });
  }

  text(name, row) {
    switch (name) {
      case "latency": return duration(row.latency_ms);
      case "ttfb": return duration(row.ttfb_ms);
      case "model": return [row.provider_id, row.model_id].filter(Boolean).join(" · ") || UNKNOWN;
      case "user": return row.user_id || UNKNOWN;
      case "tokens": return row.input_tokens === null && row.output_tokens === null ? UNKNOWN : `${count(row.input_tokens)} → ${count(row.output_tokens)}`;
      case "cost": return price(row.estimated_cost, this.currency);
      case "size": return bytes(row.response_bytes);
      default: return row.error_message || UNKNOWN;
    }
  }

  toggle(row) {
    const key = rowKey(row);
    const was = this.open?.key;
    this.close();
    const line = this.lines.get(key);
    if (was === key || !line) return;
    line.button_.setAttribute("aria-expanded", "true");
    const detail = el("tr", { class: "detail" }, el("td", { colspan: this.columns.length }, this.detail(row)));
    line.after(detail);
    this.open = { key, line: detail, button: line.button_ };
    this.hold(true);
  }

  close() {
    if (!this.open) return;
    this.open.button.setAttribute("aria-expanded", "false");
    this.open.line.remove();
    this.open = null;
    this.hold(false);
  }

  detail(row) {
    const facts = [
      ["Request", row.id],
      ["Finished", `${iso(row.timestamp_ms)}`],
      ["Status", row.aborted ? `${row.status_code ?? "no answer"}, aborted by client` : (row.status_code ?? "no answer")],
      ["Error", row.error_message],
      ["Latency", `${duration(row.latency_ms)} to the last byte`],
      ["First byte", duration(row.ttfb_ms)],
      ["Request size", bytes(row.request_bytes)],
      ["Response size", bytes(row.response_bytes)],
      ["Provider", row.provider_id],
      ["Model", row.model_id],
      ["User", row.user_id],
      ["Tenant", row.tenant_id],
      ["Tokens", row.input_tokens === null && row.output_tokens === null ? null
        : `${count(row.input_tokens)} in, ${count(row.output_tokens)} out${row.cached_tokens ? `, ${count(row.cached_tokens)} cached (${percent(row.cached_tokens / row.input_tokens)})` : ""}`],
      ["Speed", tokensPerSecond(row) === null ? null : speed(tokensPerSecond(row))],
      ["Cost", row.estimated_cost === null ? (row.output_tokens === null ? null : "no price for this model") : price(row.estimated_cost, this.currency)],
      ...Object.entries(row.labels ?? {}),
    ];
    const list = el("dl", {}, ...facts.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== UNKNOWN)
      .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
    const copy = el("button", { class: "quiet", onclick: (event) => {
      event.stopPropagation();
      this.copied(row);
    } }, "Copy as JSON");
    return el("div", { class: "facts" }, list, copy);
  }
}

const classes = (column) => [column.num && "num", column.opt && "opt"].filter(Boolean).join(" ");
const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;
