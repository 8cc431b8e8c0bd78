// The parts above and around the request lists: tiles, charts, providers, breakdown, alerts, footer.

import { $, attr, el, set, svg } from "./dom.js";
import { Chart, Group, spark } from "./charts.js";
import { Table } from "./tables.js";
import * as f from "./format.js";

const { UNKNOWN } = f;
const perSecond = (read) => (point) => (point.covered > 0 ? read(point) / point.covered : null);

// Six tiles. Hosts that never saw a token or a cost get sizes and client errors in the last two places.
export function tiles() {
  const tile = (id) => {
    const node = $(id);
    return {
      title: node.querySelector("h2"), big: node.querySelector(".big"), value: node.querySelector("b"),
      unit: node.querySelector("small"), sub: node.querySelector(".sub"), spark: node.querySelector("svg"),
    };
  };
  const all = ["rate", "errors", "latency", "flight", "fifth", "sixth"].map((name) => tile(`kpi-${name}`));
  const show = (index, { title, value, unit = "", sub = "", curve, tone = "" }) => {
    const at = all[index];
    if (title) set(at.title, title);
    set(at.value, value);
    set(at.unit, unit);
    set(at.sub, sub);
    attr(at.big, "class", `big ${tone}`);
    spark(at.spark, curve);
  };

  return (metrics, points, range) => {
    const m = metrics;
    const span = f.span(range);
    const money = (value) => f.money(value, m.currency);
    const curve = (read) => points.map((point) => (point.covered > 0 ? read(point) : null));
    const none = m.total_requests === 0;
    const covered = m.covered_seconds;
    show(0, {
      value: f.rate(m.requests_per_second), unit: "req/s",
      sub: none ? `none in ${span}` : `${f.count(m.total_requests)} in ${span} · avg ${f.rate(m.total_requests / covered)}/s`,
      curve: curve((point) => point.requests / point.covered),
    });
    const serverErrors = m.server_errors;
    show(1, {
      value: none ? UNKNOWN : f.percent(serverErrors / m.total_requests),
      sub: none ? "" : `${f.count(serverErrors)} × 5xx · ${f.count(m.client_errors)} × 4xx · ${f.count(m.aborted_requests)} aborted`,
      curve: curve((point) => point.s5), tone: serverErrors / m.total_requests >= 0.05 ? "alarm" : "",
    });
    const latency = m.latency?.[range] ?? { p50_ms: m.p50_ms, p95_ms: m.p95_ms, p99_ms: m.p99_ms, count: m.total_requests };
    const [number, unit = ""] = f.duration(latency.p95_ms).split(/ (?=\D)/);
    const few = latency.count < 20;
    show(2, {
      value: number, unit: few && !none ? `${unit} · n=${latency.count}` : unit,
      sub: none ? "" : `p50 ${f.duration(latency.p50_ms)} · p99 ${f.duration(latency.p99_ms)}`,
      curve: curve((point) => point.p95_ms), tone: few ? "few" : "",
    });
    show(3, {
      value: f.count(m.in_flight), unit: "now", sub: `peak ${f.count(m.in_flight_peak)} in ${span}`,
      curve: curve((point) => point.in_flight_max),
    });
    show(4, m.capabilities.tokens ? {
      title: "Tokens", value: f.short((m.total_tokens / covered) * 60), unit: "/min",
      sub: `${f.short(m.input_tokens)} in · ${f.short(m.output_tokens)} out${m.cached_tokens ? ` · ${f.short(m.cached_tokens)} cached` : ""}`,
      curve: curve((point) => point.input_tokens + point.output_tokens),
    } : {
      title: "Response size", value: none ? UNKNOWN : f.bytes(m.response_bytes / m.total_requests).split(" ")[0],
      unit: none ? "" : `${f.bytes(m.response_bytes / m.total_requests).split(" ")[1]} each`,
      sub: none ? "" : `${f.bytes(m.response_bytes)} in ${span}`, curve: curve((point) => point.response_bytes / point.covered),
    });
    show(5, m.capabilities.cost ? {
      title: "Cost", value: money(m.total_cost), unit: `in ${span}`,
      sub: [
        m.estimated_hourly_cost !== null && covered >= 60 ? `≈ ${money(m.estimated_hourly_cost)}/h` : null,
        m.unpriced_requests ? `${f.count(m.unpriced_requests)} unpriced` : null,
      ].filter(Boolean).join(" · "),
      curve: curve((point) => point.cost / point.covered),
    } : {
      title: "Client errors", value: none ? UNKNOWN : f.percent(m.client_errors / m.total_requests),
      sub: none ? "" : `${f.count(m.client_errors)} × 4xx in ${span}`, curve: curve((point) => point.s4),
    });
  };
}

// Two by two, one cursor. The lower two follow what the host's records carry.
export function charts({ drag }) {
  const group = new Group();
  const money = (value) => f.money(value, group.currency);
  const requests = new Chart($("chart-requests"), {
    title: "Requests per second", kind: "bars", group, drag, format: f.rate,
    series: [
      { label: "2xx", name: "2xx", value: perSecond((point) => point.s2) },
      { label: "3xx", name: "3xx", value: perSecond((point) => point.s3) },
      { label: "4xx", name: "4xx", value: perSecond((point) => point.s4) },
      { label: "5xx", name: "5xx", value: perSecond((point) => point.s5) },
    ],
  });
  const latency = new Chart($("chart-latency"), {
    title: "Latency", group, toggle: true, format: f.duration,
    series: [
      { label: "p50", name: "p50", value: (point) => point.p50_ms },
      { label: "p95", name: "p95", dash: "6 3", value: (point) => point.p95_ms },
      { label: "p99", name: "p99", dash: "2 3", value: (point) => point.p99_ms },
    ],
  });
  let lower = [];
  let shape = null;
  let codes = null;
  const adapt = ({ tokens, cost }) => {
    if (shape === `${tokens}${cost}`) return;
    shape = `${tokens}${cost}`;
    group.charts.splice(2);
    $("chart-third").replaceChildren();
    $("chart-fourth").replaceChildren();
    lower = [new Chart($("chart-third"), tokens ? {
      title: "Tokens per second", group, format: f.short,
      series: [
        { label: "input", name: "p50", value: perSecond((point) => point.input_tokens) },
        { label: "output", name: "p95", dash: "6 3", value: perSecond((point) => point.output_tokens) },
      ],
    } : {
      title: "Response bytes per second", group, format: f.bytes,
      series: [{ label: "sent", name: "p50", value: perSecond((point) => point.response_bytes) }],
    })];
    codes = null;
    if (cost) {
      lower.push(new Chart($("chart-fourth"), {
        title: "Cost per minute", kind: "steps", group, format: money,
        series: [{ label: "cost", name: "p99", value: perSecond((point) => point.cost * 60) }],
      }));
    } else {
      codes = el("ul", { class: "codes" });
      $("chart-fourth").append(el("div", { class: "head" }, el("h2", {}, "Status codes")), codes);
    }
  };
  const drawCodes = (metrics) => {
    const top = metrics.status_codes.slice(0, 5);
    codes.replaceChildren(...top.map(({ code, count }) => {
      const share = count / metrics.total_requests;
      return el("li", {}, el("b", {}, String(code ?? "none")),
        svg("svg", { "aria-hidden": "true" },
          svg("rect", { class: "track", width: "100%", height: 12, rx: 3 }),
          svg("rect", { class: `fill-${Math.floor((code || 500) / 100)}xx`, width: `${Math.max(0.7, share * 100)}%`, height: 12, rx: 3 })),
        el("span", {}, `${f.count(count)} · ${f.percent(share)}`));
    }));
  };
  return (metrics, series, frame, note) => {
    group.currency = metrics.currency;
    adapt(metrics.capabilities);
    for (const chart of [requests, latency, ...lower]) chart.update(series.points, frame, note);
    if (codes) drawCodes(metrics);
  };
}

const GLYPHS = { healthy: ["●", "ok"], degraded: ["▲", "warn"], down: ["■", "bad"], idle: ["○", "dim"], disabled: ["◌", "dim"] };
const sentence = (word) => word.charAt(0).toUpperCase() + word.slice(1);
const number = (key, label, value, format, extra = {}) => ({ key, label, value, num: true, text: (row) => format(value(row)), ...extra });
const errors = (rate, many) => ({
  key: "errors", label: "Errors", num: true, value: many,
  cell(cell, row) {
    set(cell, many(row) ? `${f.count(many(row))} · ${f.percent(rate(row))}` : "0");
    const share = rate(row) ?? 0;
    cell.classList.toggle("bad", share >= 0.05);
    cell.classList.toggle("warn", share >= 0.01 && share < 0.05);
  },
});
const percentiles = [
  number("p50", "p50", (row) => row.p50_ms, f.duration),
  number("p95", "p95", (row) => row.p95_ms, f.duration),
  number("p99", "p99", (row) => row.p99_ms, f.duration, { opt: true }),
];

export function providers(pick, active) {
  let currency = "USD";
  const columns = [
    {
      key: "name", label: "Provider", value: (row) => row.name,
      cell(cell, row) {
        if (!cell.type_) cell.name_.append((cell.label_ = el("span")), (cell.type_ = el("small")));
        set(cell.label_, row.name);
        set(cell.type_, row.type ?? "");
      },
    },
    {
      key: "status", label: "Status", value: (row) => row.status,
      cell(cell, row) {
        const [glyph, tone] = GLYPHS[row.status] ?? ["?", "dim"];
        set(cell, `${glyph} ${sentence(row.status)}`);
        attr(cell, "class", tone);
        attr(cell, "title", row.status_reason || row.message || null);
      },
    },
    number("requests", "Requests", (row) => row.total_requests, f.count),
    errors((row) => row.error_count / row.total_requests, (row) => row.error_count),
    ...percentiles,
    number("ttft", "TTFT p95", (row) => row.ttfb_p95_ms, f.duration, { opt: true, title: "Time to first token: 95 of 100 answers began within this" }),
    number("tokens", "Tokens", (row) => row.total_tokens, f.count, { opt: true }),
    number("cost", "Cost", (row) => row.total_cost, (value) => f.money(value, currency), { opt: true }),
  ];
  const table = new Table($("providers-table"), {
    columns, sort: "requests", key: (row) => row.id, caption: "Providers", pick: (row) => pick("provider", row.id), active: (row) => active("provider", row.id),
  });
  return (metrics, registry) => {
    currency = metrics.currency;
    const seen = new Map(metrics.providers.map((row) => [row.provider_id, row]));
    const ids = new Set([...registry.keys(), ...seen.keys()]);
    const rows = [...ids].map((id) => {
      const known = registry.get(id) ?? {};
      const numbers = seen.get(id) ?? { total_requests: 0, error_count: 0 };
      return { ...known, ...numbers, id, name: known.name || id, status: known.status ?? "unknown" };
    });
    $("providers").hidden = rows.length === 0 || !(metrics.capabilities.providers || registry.size);
    table.update(rows);
  };
}

export const BREAKDOWNS = { routes: ["route", "Route"], models: ["model", "Model"], users: ["user", "User"] };

export function breakdown(pick, active) {
  let table = null;
  let shape = null;
  let currency = "USD";
  const sinks = (row) => row.key === "other" || row.key === "(unmatched)" || row.key === "(none)";
  return (data, tab, capabilities, code) => {
    const [field, label] = BREAKDOWNS[tab];
    currency = code;
    if (shape !== `${tab}${capabilities.tokens}${capabilities.cost}`) {
      shape = `${tab}${capabilities.tokens}${capabilities.cost}`;
      const { sort = "requests", descending = true } = table ?? {};
      table = new Table($("breakdown-table"), {
        sort, descending, key: (row) => row.key, caption: `Breakdown by ${field}`,
        pick: (row) => row.key !== "other" && row.label === undefined && pick(field, row.key),
        active: (row) => active(field, row.key),
        columns: [
          { key: "name", label, value: (row) => row.key, text: (row) => row.label ?? row.key },
          number("requests", "Requests", (row) => row.total_requests, f.count),
          {
            key: "share", label: "Share", num: true, opt: true, value: (row) => row.total_requests,
            cell(cell, row) {
              if (!cell.text_) {
                cell.fill_ = svg("rect", { class: "fill", height: 6, rx: 3 });
                cell.text_ = el("span");
                cell.append(el("span", { class: "share" }, svg("svg", { "aria-hidden": "true" }, svg("rect", { width: "100%", height: 6, rx: 3 }), cell.fill_), cell.text_));
              }
              attr(cell.fill_, "width", `${((row.share ?? 0) * 100).toFixed(1)}%`);
              set(cell.text_, f.percent(row.share));
            },
          },
          errors((row) => row.error_rate, (row) => row.failed_requests),
          ...percentiles,
          ...(capabilities.tokens ? [number("tokens", "Tokens", (row) => row.total_tokens, f.count, { opt: true })] : []),
          ...(capabilities.cost ? [number("cost", "Cost", (row) => row.total_cost, (value) => f.money(value, currency), { opt: true })] : []),
        ],
      });
    }
    const total = data.totals && { ...data.totals, key: "", label: "All", share: data.totals.total_requests ? 1 : null };
    table.update(data.rows, data.rows.length ? total : null, sinks);
  };
}

const SEVERITY = { critical: ["■", "Critical"], error: ["■", "Critical"], warning: ["▲", "Warning"] };

export function alerts(list) {
  const section = $("alerts");
  section.hidden = list.length === 0;
  const shown = [...list].sort((a, b) => (b.since ?? 0) - (a.since ?? 0)).slice(0, 3);
  section.replaceChildren(...shown.map((alert) => {
    const [glyph, word] = SEVERITY[alert.severity] ?? SEVERITY.warning;
    const since = typeof alert.since === "number" ? alert.since * 1000 : Date.parse(alert.since);
    return el("div", { class: `alert ${word.toLowerCase()}` },
      el("b", {}, `${glyph} ${word}`), el("span", {}, alert.rule_name),
      el("span", {}, `${String(alert.condition).replaceAll("_", " ")}: now ${plain(alert.current_value)}, threshold ${plain(alert.threshold)}`),
      el("span", { class: "dim" }, `since ${f.clock(since)}`));
  }));
  if (list.length > 3) section.append(el("p", { class: "dim" }, `${list.length - 3} more`));
}

const plain = (value) => (typeof value === "number" ? Number(value.toPrecision(4)).toLocaleString("en-US") : String(value ?? UNKNOWN));

export function connections(list) {
  const panel = $("connections");
  panel.hidden = list.length === 0;
  if (panel.hidden) return;
  panel.table_ ??= new Table($("connections-table"), {
    sort: "lag", key: (row) => row.connection_id ?? row.id, caption: "Connections",
    columns: [
      { key: "id", label: "Connection", value: (row) => String(row.connection_id ?? row.id), text: (row) => String(row.connection_id ?? row.id) },
      { key: "transport", label: "Transport", value: (row) => row.transport ?? "", text: (row) => row.transport ?? UNKNOWN },
      { key: "user", label: "User", value: (row) => row.user_id ?? "", text: (row) => row.user_id ?? UNKNOWN },
      { key: "channels", label: "Channels", value: (row) => row.channels.join(), text: (row) => row.channels.join(", "), opt: true },
      number("lag", "Lag", (row) => row.lag, f.count, { title: "Events that this reader has not taken yet" }),
      number("sent", "Sent", (row) => row.sent, f.count),
      number("gaps", "Gaps", (row) => row.gaps, f.count, { opt: true }),
      number("age", "Age", (row) => row.age_seconds, (value) => f.duration(value * 1000), { opt: true }),
    ],
  });
  panel.table_.update(list.map((row) => ({ channels: [], ...row })));
}

// Every loss is told here, with the name of the setting that would have prevented it.
export function footer({ metrics, hub, version, skew, skipped, shared }) {
  const items = [];
  const say = (text, tone = "") => items.push([text, tone]);
  const { feed, series = {} } = metrics;
  if (metrics.dropped) say(`Dropped ${f.count(metrics.dropped)} rows – raise feed_capacity`, "bad");
  for (const [name, table] of Object.entries(series)) {
    if (table.overflow) say(`${f.count(table.overflow)} ${name} in “other” – raise max_${name}`, "warn");
  }
  if (skipped) say(`${f.count(skipped)} updates skipped (slow connection)`, "warn");
  say(`${f.count(metrics.recorded)} recorded`);
  if (!metrics.dropped) say("0 dropped");
  if (feed) say(`buffer ${f.count(feed.pending)} / ${f.count(feed.capacity)}`);
  const tables = Object.values(series);
  if (tables.length) {
    say(`series ${f.count(tables.reduce((sum, table) => sum + table.used, 0))} / ${f.count(tables.reduce((sum, table) => sum + table.max, 0))}`);
  }
  if (hub) say(`${f.count(hub.total_clients)} ${hub.total_clients === 1 ? "viewer" : "viewers"}`);
  if (metrics.active_users) {
    say(`${metrics.unique_users_approximate ? "~" : ""}${f.count(metrics.unique_users_today)} users today, ${f.count(metrics.active_users)} active`);
  }
  say(`up ${f.duration(metrics.uptime_seconds * 1000)}`);
  if (Math.abs(skew) > 5000) say(`server clock ${skew > 0 ? "+" : "−"}${f.duration(Math.abs(skew))}`, "warn");
  if (metrics.instance) say(`instance ${metrics.instance} (this process only)`);
  if (version) say(`tower-realtime ${version}`);
  const key = JSON.stringify(items);
  const node = $("footer");
  if (node.shown === key) return;
  node.shown = key;
  node.replaceChildren(
    ...items.map(([text, tone]) => el("span", { class: tone || null }, text)),
    el("a", { href: "https://docs.rs/tower-realtime" }, "Documentation"),
  );
}
