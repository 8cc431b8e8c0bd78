// Lists of requests: the live feed with its filter, its hold while someone reads, its files; the last errors, the slowest.

import { $, attr, el, set, show } from "./dom.js";
import { copyText, download, iso, toCsv, toJson } from "./export.js";
import { matcher, words } from "./filter.js";
import { UNKNOWN, asBytes, asClock, asCount, asDuration, asPercent, asPrice, asSpeed } from "./format.js";
import { rowKey } from "./store.js";
import { Table } from "./table.js";

const SHOWN = 100;

const statusText = (row) => (row.aborted ? "aborted" : String(row.status_code ?? "failed"));
const statusClass = ({ aborted, status_code: code, success }) => (aborted ? "s4" : code >= 400 && code < 500 ? "s4" : success ? "s2" : "s5");
const tokensText = ({ input_tokens: input, output_tokens: output }) => (input === null && output === null ? UNKNOWN : `${asCount(input)} → ${asCount(output)}`);
const modelText = (row) => [row.provider_id, row.model_id].filter(Boolean).join(" · ") || UNKNOWN;

const COLUMNS = {
  time: {
    label: "Time", class: "c-time",
    fill(cell, row) {
      set(cell, asClock(row.timestamp_ms));
      cell.title = iso(row.timestamp_ms);
    },
  },
  request: {
    label: "Request", class: "c-request",
    make: (cell) => cell.append(el("small"), el("span")),
    fill(cell, row) {
      set(cell.firstChild, row.method);
      set(cell.lastChild, row.endpoint);
    },
  },
  status: {
    label: "Status", class: "c-status",
    make: (cell) => cell.append(el("b")),
    fill(cell, row) {
      set(cell.firstChild, statusText(row));
      attr(cell.firstChild, "class", `code ${statusClass(row)}`);
    },
  },
  latency: { label: "Latency", class: "num c-latency", value: (row) => row.latency_ms, format: asDuration },
  ttfb: { label: "TTFB", title: "Time to first byte", class: "num opt c-latency", value: (row) => row.ttfb_ms, format: asDuration },
  model: { label: "Provider · model", class: "opt c-model", value: modelText },
  user: { label: "User", class: "opt c-user", value: (row) => row.user_id ?? UNKNOWN },
  tokens: { label: "Tokens in → out", class: "num opt c-tokens", value: tokensText },
  cost: { label: "Cost", class: "num opt c-cost", value: (row) => row.estimated_cost, format: asPrice },
  size: { label: "Size", title: "Size of the response", class: "num opt c-latency", value: (row) => row.response_bytes, format: asBytes },
  message: { label: "Message", class: "opt c-message", value: (row) => row.error_message || UNKNOWN },
};
const NEEDS = { model: "providers", user: "users", tokens: "tokens", cost: "cost" };

export class RequestList extends Table {
  constructor(node, caption, names) {
    super(node, { caption, key: rowKey, detail, mark: (row) => statusClass(row), names: names.split(" ") });
  }

  // Columns depend on what the host's records carry.
  adapt(capabilities) {
    const names = this.names.filter((name) => (name === "size" ? !capabilities.tokens : capabilities[NEEDS[name]] ?? true));
    this.shape(names.join(), names.map((name) => COLUMNS[name]));
  }
}

function detail(row) {
  const { input_tokens: input, output_tokens: output, cached_tokens: cached, ttfb_ms: ttfb } = row;
  const seconds = (row.latency_ms - ttfb) / 1000;
  const facts = {
    Request: row.id,
    Finished: iso(row.timestamp_ms),
    Status: row.aborted ? `${row.status_code ?? "no answer"}, aborted by client` : (row.status_code ?? "no answer"),
    Error: row.error_message,
    Latency: `${asDuration(row.latency_ms)} to the last byte`,
    "First byte": asDuration(ttfb),
    "Request size": asBytes(row.request_bytes),
    "Response size": asBytes(row.response_bytes),
    Provider: row.provider_id,
    Model: row.model_id,
    User: row.user_id,
    Tenant: row.tenant_id,
    "Tokens in → out": tokensText(row),
    "Cached tokens": cached ? `${asCount(cached)} (${asPercent(cached / input)})` : "",
    Speed: output > 1 && seconds > 0 ? asSpeed(output / seconds) : "",
    Cost: row.estimated_cost === null && output ? "no price for this model" : asPrice(row.estimated_cost),
    ...row.labels,
  };
  const onclick = (event) => {
    event.stopPropagation();
    copyText(toJson(row)).then(() => set(event.target, "Copied"));
  };
  return el("div", { class: "facts" },
    el("dl", {}, ...Object.entries(facts).filter(([, value]) => value && value !== UNKNOWN).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    el("button", { class: "quiet", onclick }, "Copy as JSON"));
}

// New rows must not push away what someone points at, reads, selects or has the focus in.
export class Feed extends RequestList {
  all = [];
  kept = []; // what is on the screen: `all`, or older while it is held
  matching = [];

  constructor() {
    super($("feed-table"), "Live requests, newest first", "time request status latency ttfb model user tokens cost size");
    this.box = this.node.parentElement;
    this.box.onpointerenter = ({ pointerType }) => {
      this.hovered = pointerType === "mouse";
    };
    this.box.onpointerleave = () => {
      this.hovered = false;
      this.render();
    };
    $("more").onclick = () => {
      this.close();
      this.render(true);
    };
    $("csv").onclick = () => download("csv", "text/csv;charset=utf-8", toCsv(this.matching));
    $("json").onclick = () => download("json", "application/json", toJson(this.matching));
  }

  held() {
    const selection = getSelection();
    return this.hovered || this.open || this.box.querySelector(":focus-visible") || (selection.type === "Range" && this.box.contains(selection.anchorNode));
  }

  render(release) {
    if (!this.columns) return;
    if (release || !this.kept.length || !this.held()) this.kept = this.all;
    const { kept, all } = this;
    this.matching = kept.filter(matcher(this.query));
    this.update(this.matching.slice(0, SHOWN));
    const found = this.matching.length;
    const waiting = kept === all ? 0 : all.indexOf(kept[0]);
    show($("more"), waiting);
    set($("more"), `${waiting < 0 ? `${all.length}+` : waiting} new – click to show`);
    set($("matches"), found === kept.length ? `${asCount(found)} kept` : `${asCount(found)} / ${asCount(kept.length)}`);
    show($("feed-empty"), !found);
    set($("feed-empty"), kept.length ? `None of the ${asCount(kept.length)} requests kept here, back to ${asClock(kept.at(-1).timestamp_ms)}, matches the filter.` : "No requests yet.");
  }
}

// The words of the filter as buttons that take them away, under the header so that they are seen from everywhere.
export function drawChips({ text, interval }, remove) {
  const chip = (label, what, look = "chip") => el("button", { class: look, onclick: () => remove(what) }, label);
  const chips = words(text).map((word) => chip(`${word} ×`, word));
  if (interval) chips.push(chip(`${interval.map((at) => asClock(at * 1000)).join(" – ")} ×`, "interval"));
  show($("chips"), chips.length);
  $("chips").replaceChildren("Filter", ...chips, chip("Clear", null, "chip clear"));
}
