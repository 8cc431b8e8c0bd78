// The parts above and around the lists of requests: tiles, charts, providers, breakdown, alerts, footer.

import { $, attr, el, set, show, svg } from "./dom.js";
import { Chart, group, spark } from "./charts.js";
import { UNKNOWN, asBytes, asClock, asCount, asDuration, asMoney, asPercent, asRate, asShort, asSpan } from "./format.js";
import { Table } from "./table.js";

const perSecond = (read) => (point) => read(point) / point.covered;
// A number stays with its unit: lines break between the parts only.
const joined = (...parts) => parts.filter(Boolean).map((part) => part.replaceAll(" ", "\u00a0")).join(" · ");

// Six tiles. Hosts that never saw a token or a cost get sizes and client errors in the last two places.
export function drawTiles(m, points) {
  const span = asSpan(m.window_seconds);
  const n = m.total_requests;
  const { tokens, cost } = m.capabilities;
  const latency = m.latency[m.window_seconds];
  const errorRate = m.server_errors / n;
  const few = latency.count < 20;
  const ofTotal = (text) => (n ? text : "");
  const tiles = [
    ["Throughput", `${asRate(m.requests_per_second)} req/s`, joined(`${asCount(n)} in ${span}`, n && `avg ${asRate(n / m.covered_seconds)}/s`),
      perSecond((point) => point.requests)],
    ["Server errors", asPercent(errorRate),
      ofTotal(joined(`${asCount(m.server_errors)} × 5xx`, `${asCount(m.client_errors)} × 4xx`, `${asCount(m.aborted_requests)} aborted`)),
      (point) => point.s5, errorRate >= 0.05 && "alarm"],
    ["Latency p95", asDuration(latency.p95_ms), ofTotal(joined(`p50 ${asDuration(latency.p50_ms)}`, `p99 ${asDuration(latency.p99_ms)}`, few && `n=${latency.count}`)),
      (point) => point.p95_ms, few && "few"],
    ["In flight", `${asCount(m.in_flight)} now`, `peak ${asCount(m.in_flight_peak)} in ${span}`, (point) => point.in_flight_max],
    tokens
      ? ["Tokens", `${asShort((m.total_tokens / m.covered_seconds) * 60)} /min`,
        joined(`${asShort(m.input_tokens)} in`, `${asShort(m.output_tokens)} out`, m.cached_tokens && `${asShort(m.cached_tokens)} cached`),
        (point) => point.input_tokens + point.output_tokens]
      : ["Response size", `${asBytes(m.response_bytes / n)} avg`, ofTotal(`${asBytes(m.response_bytes)} in ${span}`), perSecond((point) => point.response_bytes)],
    cost
      ? ["Cost", `${asMoney(m.total_cost)} in ${span}`,
        joined(m.covered_seconds >= 60 && `≈ ${asMoney(m.estimated_hourly_cost)}/h`, m.unpriced_requests && `${asCount(m.unpriced_requests)} unpriced`),
        perSecond((point) => point.cost)]
      : ["Client errors", asPercent(m.client_errors / n), ofTotal(`${asCount(m.client_errors)} × 4xx in ${span}`), (point) => point.s4],
  ];
  tiles.forEach(([title, text, sub, read, tone], index) => {
    const [heading, big, under, curve] = $("kpis").children[index].children;
    const [, value, unit] = /^(\S+) ?(.*)$/.exec(text);
    set(heading, title);
    set(big.firstChild, value);
    set(big.lastChild, value === UNKNOWN ? "" : unit);
    set(under, sub);
    attr(big, "class", `big ${tone || ""}`);
    spark(curve, points.map((point) => (point.covered > 0 ? read(point) : null)));
  });
}

const byClass = (name) => [name, name, perSecond((point) => point[`s${name[0]}`])];
let lower;

// Two by two. The lower two follow what the host's records carry.
export function drawCharts(m, { points }, frame, note, drag) {
  const { tokens, cost } = m.capabilities;
  if (group.charts.length === 0) {
    new Chart($("chart-1"), { title: "Requests per second", kind: "bars", format: asRate, drag, series: ["2xx", "3xx", "4xx", "5xx"].map(byClass) });
    new Chart($("chart-2"), {
      title: "Latency", format: asDuration, log: true,
      series: [["p50", "p50", (point) => point.p50_ms], ["p95", "p95", (point) => point.p95_ms, "6 3"], ["p99", "p99", (point) => point.p99_ms, "2 3"]],
    });
  }
  if (lower !== `${tokens} ${cost}`) {
    lower = `${tokens} ${cost}`;
    group.charts.splice(2);
    new Chart($("chart-3"), tokens
      ? { title: "Tokens per second", format: asShort, series: [["input", "p50", perSecond((point) => point.input_tokens)], ["output", "p95", perSecond((point) => point.output_tokens), "6 3"]] }
      : { title: "Response bytes per second", format: asBytes, series: [["sent", "p50", perSecond((point) => point.response_bytes)]] });
    if (cost) new Chart($("chart-4"), { title: "Cost per minute", kind: "steps", format: asMoney, series: [["cost", "p99", perSecond((point) => point.cost * 60)]] });
  }
  for (const chart of group.charts) chart.update(points, frame, note);
  if (cost) return;
  $("chart-4").replaceChildren(el("div", { class: "head" }, el("h2", {}, "Status codes")), el("ul", { class: "codes" },
    ...m.status_codes.slice(0, 5).map(({ code, count }) => el("li", {}, el("b", {}, code ?? "none"),
      bar(count / m.total_requests, `fill-${String(code ?? 5)[0]}xx`), el("span", {}, `${asCount(count)} · ${asPercent(count / m.total_requests)}`)))));
}

const bar = (share, name) => {
  const rect = (width, look) => svg("rect", { width: `${Math.max(width * 100, 0.7)}%`, height: "100%", rx: 3, class: look });
  return svg("svg", { class: "share", "aria-hidden": true }, rect(1, "track"), rect(share, name));
};

// Columns that providers, routes, models and users have in common.
const column = (label, value, format, look = "num", title = undefined) => ({ label, value, format, class: look, title });
const failures = {
  ...column("Errors", (row) => row.failed_requests),
  fill(cell, { failed_requests: failed, error_rate: rate }) {
    set(cell, failed ? `${asCount(failed)} · ${asPercent(rate)}` : "0");
    attr(cell, "class", `num ${rate >= 0.05 ? "bad" : rate >= 0.01 ? "warn" : ""}`);
  },
};
const requests = column("Requests", (row) => row.total_requests, asCount);
const share = {
  ...column("Share", (row) => row.share, asPercent, "num opt"),
  fill(cell, row) {
    const text = asPercent(row.share);
    if (cell.shown === text) return;
    cell.shown = text;
    cell.replaceChildren(bar(row.share, "fill-2xx"), text);
  },
};
const percentiles = ["p50", "p95", "p99"].map((name, index) => column(name, (row) => row[`${name}_ms`], asDuration, index < 2 ? "num" : "num opt"));
const ttft = column("TTFT p95", (row) => row.ttfb_p95_ms, asDuration, "num opt", "Time to first token: 95 of 100 answers began within this");
const tokensColumn = column("Tokens", (row) => row.total_tokens, asCount, "num opt");
// Where no price is known for what ran, the cost is not zero but unknown, or more than this.
const costText = ({ total_cost: cost, unpriced_requests: unpriced }) => (!unpriced ? asMoney(cost) : cost ? `≥ ${asMoney(cost)}` : UNKNOWN);
const costColumn = { ...column("Cost", (row) => row.total_cost, null, "num opt"), fill: (cell, row) => set(cell, costText(row)) };

const GLYPHS = { healthy: "● ok", degraded: "▲ warn", down: "■ bad", idle: "○ dim", disabled: "◌ dim" };

let providersTable;

export function drawProviders(m, registry, pick, active) {
  const numbers = new Map(m.providers.map((row) => [row.provider_id, { ...row, failed_requests: row.error_count, error_rate: row.error_count / row.total_requests }]));
  // Requests without a provider are in the breakdown.
  numbers.delete("(none)");
  const rows = [...new Set([...registry.keys(), ...numbers.keys()])].map((id) => {
    const { name = id, type, status = "unknown", status_reason: reason, message } = registry.get(id) ?? {};
    return { total_requests: 0, failed_requests: 0, ...numbers.get(id), id, name, type, status, why: reason || message };
  });
  show($("providers"), rows.length);
  providersTable ??= new Table($("providers-table"), {
    caption: "Providers", sort: "Requests", key: (row) => row.id, pick: (row) => pick("provider", row.id), active: (row) => active("provider", row.id),
  });
  providersTable.shape("", [
    {
      label: "Provider", value: (row) => row.name,
      make: (cell) => cell.append(el("span"), el("small")),
      fill(cell, row) {
        set(cell.firstChild, row.name);
        set(cell.lastChild, row.type ?? "");
      },
    },
    {
      label: "Status", value: (row) => row.status,
      fill(cell, { status, why }) {
        const [glyph, tone] = (GLYPHS[status] ?? "? dim").split(" ");
        set(cell, `${glyph} ${status[0].toUpperCase()}${status.slice(1)}`);
        attr(cell, "class", tone);
        attr(cell, "title", why || null);
      },
    },
    requests, failures, ...percentiles, ttft, tokensColumn, costColumn,
  ]);
  providersTable.update(rows);
}

let breakdownTable;

export function drawBreakdown({ rows, totals }, field, { tokens, cost }, pick, active) {
  breakdownTable ??= new Table($("breakdown-table"), {
    caption: "Breakdown", sort: "Requests", key: (row) => row.key, sinks: ({ key }) => key === "other" || key[0] === "(",
  });
  Object.assign(breakdownTable, {
    pick: ({ key }) => key !== "other" && pick(field, key), active: ({ key }) => active(field, key), picks: true,
  });
  breakdownTable.shape(`${field} ${tokens} ${cost}`, [
    column(field[0].toUpperCase() + field.slice(1), (row) => row.key, String, null),
    requests, share, failures, ...percentiles, ...(tokens ? [tokensColumn] : []), ...(cost ? [costColumn] : []),
  ]);
  breakdownTable.update(rows, rows.length ? { ...totals, key: "All", share: 1 } : null);
}

export function drawAlerts(list) {
  show($("alerts"), list.length);
  $("alerts").replaceChildren(...list.slice(-3).reverse().map(({ severity, rule_name: rule, current_value: now, threshold, since }) =>
    el("p", { class: `alert ${severity}` }, el("b", {}, severity === "critical" ? "■ Critical" : "▲ Warning"),
      `${rule}: now ${now}, threshold ${threshold}`, el("span", { class: "dim" }, `since ${asClock(since * 1000)}`))),
    list.length > 3 ? `${list.length - 3} more` : "");
}

// Every loss is told here, with the name of the setting that would have prevented it.
export function drawFooter({ metrics: m, hub, info, skew, skipped }) {
  const tables = Object.entries(m.series);
  const total = (name) => asCount(tables.reduce((sum, [, table]) => sum + table[name], 0));
  const items = [
    m.dropped && [`Dropped ${asCount(m.dropped)} rows – raise feed_capacity`, "bad"],
    ...tables.map(([name, { overflow }]) => overflow && [`${asCount(overflow)} ${name} in “other” – raise max_${name}`, "warn"]),
    skipped && [`${asCount(skipped)} updates skipped (slow connection)`, "warn"],
    [`${asCount(m.recorded)} recorded`],
    !m.dropped && ["0 dropped"],
    [`buffer ${asCount(m.feed.pending)} / ${asCount(m.feed.capacity)}`],
    [`series ${total("used")} / ${total("max")}`],
    hub && [`${asCount(hub.total_clients)} viewer${hub.total_clients === 1 ? "" : "s"}`],
    m.unique_users_today && [`${m.unique_users_approximate ? "~" : ""}${asCount(m.unique_users_today)} users today, ${asCount(m.active_users)} active`],
    [`up ${asDuration(m.uptime_seconds * 1000)}`],
    Math.abs(skew) > 5000 && [`server clock ${skew > 0 ? "+" : "−"}${asDuration(Math.abs(skew))}`, "warn"],
    [`instance ${m.instance} (this process only)`],
    info && [`tower-realtime ${info.version}`],
  ].filter(Boolean);
  $("footer").replaceChildren(...items.map(([text, tone]) => el("span", { class: tone }, text)), el("a", { href: "https://docs.rs/tower-realtime" }, "Documentation"));
}
