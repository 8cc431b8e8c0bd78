// The page: first a picture from REST, then the stream; everything drawn once per frame, and only while someone looks.

import { request } from "./api.js";
import { $, attr, memory, set } from "./dom.js";
import { chips, feed } from "./feed.js";
import { exact, matcher, toggle, words } from "./filter.js";
import { age, clock, count, span } from "./format.js";
import { link } from "./link.js";
import * as panels from "./panels.js";
import { Rows } from "./rows.js";
import { Store, epoch } from "./store.js";
import { copy, json } from "./export.js";

const RANGES = { 60: ["1m", 1], 300: ["5m", 5], 900: ["15m", 15], 3600: ["1h", 60] };
const TABS = ["routes", "models", "users", "errors", "slow"];
const STREAM_WINDOW = "5m";
const BANNER_AFTER_MS = 3000;
const NOTE_MS = 60_000;

const meta = document.querySelector('meta[name="realtime"]').dataset;
const absolute = (path) => new URL(path, document.baseURI).href.replace(/\/$/, "");
const api = absolute(meta.api);
const streamUrl = `${absolute(meta.stream)}?channels=stats,requests,providers,alerts&window=${STREAM_WINDOW}`;

const store = new Store();
const state = { range: 300, tab: "routes", text: "", interval: null, paused: false };
const connection = { state: "connecting", since: Date.now() };
let token = memory.get("token", "sessionStorage");
let skew = 0;
let life = null;
let restartedAt = null;
let stream = null;
let started = false;
let hub = null;
let fresh = 0; // rows since the pause
let trouble = null; // a text for the banner that no reconnecting takes away

const get = (path) => request(`${api}/${path}`, { token });
const now = () => Date.now() + skew;
const announce = (text) => {
  $("announce").textContent = text;
};

// ---- What is drawn ----

const word = (field, value) => exact(field, value);
const isActive = (field, value) => words(state.text).includes(word(field, value));
const pick = (field, value) => setFilter(toggle(state.text, word(field, value)), state.interval);

const drawTiles = panels.tiles();
const drawCharts = panels.charts({ drag: (from, to) => setFilter(state.text, [from, to]) });
const drawProviders = panels.providers(pick, isActive);
const drawBreakdown = panels.breakdown(pick, isActive);
const live = feed({ announce });
const copied = (row) => copy(json(row)).then(() => announce("Copied"));
const lists = {
  errors: new Rows($("errors-table"), { names: ["time", "request", "status", "latency", "model", "user", "message"], caption: "Last errors", copied }),
  slow: new Rows($("slow-table"), { names: ["time", "request", "status", "latency", "ttfb", "model", "user", "tokens"], caption: "Slowest requests", copied }),
};
let broken = null; // the breakdown's last answer: {tab, data}

const dirty = new Set();
let frame = 0;
function draw(...parts) {
  for (const part of parts) dirty.add(part);
  if (frame || document.hidden) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    if (state.paused || !store.metrics) return;
    const parts = [...dirty];
    dirty.clear();
    for (const part of parts) PARTS[part]();
  });
}

const PARTS = {
  numbers() {
    const { metrics, series } = store;
    const empty = metrics.lifetime.total_requests === 0 && store.rows.length === 0;
    document.body.classList.remove("loading");
    $("empty").hidden = !empty;
    for (const part of document.querySelectorAll(".charts:not(#widgets), #breakdown, #feed")) part.hidden = empty;
    set($("as-of"), `as of ${clock(metrics.timestamp_ms)}`);
    live.adapt(metrics.capabilities, metrics.currency);
    drawTiles(metrics, series.points, state.range);
    if (empty) $("providers").hidden = true;
    else drawProviders(metrics, store.providers);
    $("tab-models").hidden = !metrics.capabilities.providers;
    $("tab-users").hidden = !metrics.capabilities.users;
    if ($(`tab-${state.tab}`).hidden) setTab("routes");
    for (const node of document.querySelectorAll(".window")) set(node, `last ${span(state.range)}`);
    PARTS.footer();
  },
  charts() {
    const { metrics, series } = store;
    if (!$("empty").hidden) return;
    const quiet = series.points.every((point) => !point.requests) && metrics.total_requests === 0;
    const last = store.rows[0];
    const note = quiet ? `No requests in the last ${span(state.range)}${last ? ` – last one ${age((now() - last.timestamp_ms) / 1000)}` : ""}` : "";
    const frame = { from: series.from, to: series.to, step: series.step, started: metrics.started_at, restarted: restartedAt !== null };
    drawCharts(metrics, series, frame, note);
  },
  feed: () => live.rows(store.rows),
  breakdown() {
    if (!broken || broken.tab !== state.tab) return;
    const { tab, data } = broken;
    $("breakdown-table").hidden = !(tab in panels.BREAKDOWNS);
    for (const name of Object.keys(lists)) lists[name].table.hidden = name !== tab;
    let size;
    if (tab in lists) {
      lists[tab].adapt(store.metrics.capabilities, store.metrics.currency);
      const rows = data.filter(matcher(state.text, state.interval));
      lists[tab].render(rows);
      size = rows.length;
    } else {
      drawBreakdown(data, tab, store.metrics.capabilities, store.metrics.currency);
      size = data.rows.length;
    }
    $("panel-empty").hidden = size > 0;
    set($("panel-empty"), tab === "errors" ? "No errors. Nothing to see here, and that is good." : `Nothing in the last ${span(state.range)}.`);
  },
  alerts: () => panels.alerts([...store.alerts.values()]),
  footer: () => panels.footer({ metrics: store.metrics, hub, version: meta.version, skew, skipped: store.skipped }),
};

// ---- Reading ----

const seriesPath = () => `series?range=${state.range}&step=${RANGES[state.range][1]}`;
const metricsPath = () => `metrics?window=${RANGES[state.range][0]}`;
let reading = 0;
let retry = null;

function learn(metrics) {
  skew = metrics.timestamp_ms - Date.now();
  // Everything below half a second is the way of the packets, not the clock.
  if (Math.abs(skew) < 500) skew = 0;
  store.metrics = metrics;
}

async function load() {
  const mine = ++reading;
  clearTimeout(retry);
  try {
    const [metrics, series, recent] = await Promise.all([get(metricsPath()), get(seriesPath()), get("requests?limit=500")]);
    if (mine !== reading) return;
    // A young process has nothing to show on five minutes; its first minute fills before one's eyes.
    if (!started && !chosen && state.range === 300 && metrics.uptime_seconds < 120) {
      setRange(60);
      return load();
    }
    meet(recent.position);
    if (restartedAt !== null) restartedAt = metrics.started_at * 1000;
    trouble = null;
    learn(metrics);
    store.series = series;
    store.add(recent.requests);
    fresh = 0;
    if (!started) begin();
    gate(null);
    draw("numbers", "charts", "feed", "alerts");
    loadBreakdown();
    stream.start(recent.position);
  } catch (error) {
    if (mine !== reading) return;
    failed(error);
  }
}

// A new epoch is a new life of the server: nothing that was counted before holds.
function meet(position) {
  const next = epoch(position);
  if (life !== null && next !== null && next !== life) {
    live.close();
    store.reset();
    broken = null;
    restartedAt = now();
    loadOptional();
  }
  life = next ?? life;
}

function failed(error) {
  if (error.kind === "denied") {
    change({ state: "denied", status: error.status });
    gate(error);
    return;
  }
  if (error.kind === "misplaced") {
    trouble = `The API is not at the expected place: ${api} answered with ${error.message}. Is a proxy rewriting the path?`;
    change({ state: "lost" });
    return;
  }
  if (started && connection.state === "live") return; // the stream speaks for the connection
  const wait = 1000 + Math.random() * 3000;
  retry = setTimeout(load, wait);
  change({ state: "retrying", retryAt: Date.now() + wait });
}

// The first time that there is anything: what rarely changes, and what is asked for again and again.
function begin() {
  started = true;
  loadOptional();
  setInterval(loadBreakdown, 5000);
  setInterval(loadHub, 10_000);
}

function open() {
  stream?.close();
  stream = link({ url: streamUrl, api, token }, receive);
}

let polling = false;
async function poll() {
  if (polling || document.hidden || state.paused || !store.series) return;
  polling = true;
  try {
    const { range } = state;
    const { to, step } = store.series;
    const due = now() / 1000 >= to + step;
    const needs = store.metrics.window_seconds !== range;
    const [metrics, series] = await Promise.all([needs ? get(metricsPath()) : null, due ? get(seriesPath()) : null]);
    if (range === state.range && !state.paused) {
      if (metrics) learn(metrics);
      if (series) store.series = series;
      draw("numbers", ...(series ? ["charts"] : []));
    }
  } catch (error) {
    failed(error);
  } finally {
    polling = false;
  }
}

async function loadBreakdown() {
  if (document.hidden || state.paused || !store.metrics || connection.state === "denied") return;
  const { tab, range } = state;
  try {
    const data = tab === "errors" ? (await get("errors?limit=100")).errors
      : tab === "slow" ? (await get(`slow?range=${range}`)).slow
      : await get(`breakdown?by=${panels.BREAKDOWNS[tab][0]}&range=${range}`);
    if (tab !== state.tab || range !== state.range) return;
    broken = { tab, data };
    draw("breakdown");
  } catch {
    // The next round tries again; the stream's state tells about the connection.
  }
}

async function loadHub() {
  if (document.hidden || state.paused || connection.state !== "live") return;
  try {
    hub = await get("hub/stats");
    if (optional.connections && $("connections").open) panels.connections(list(await get("connections"), "connections"));
    draw("footer");
  } catch {
    // As above.
  }
}

// Abilities that a server may not have are asked for only if it says that it has them.
const optional = {};
const list = (data, name) => (Array.isArray(data) ? data : (data?.[name] ?? []));
async function loadOptional() {
  try {
    const told = JSON.stringify((await get("info")).endpoints ?? []);
    for (const name of ["alerts", "connections", "widgets"]) optional[name] = told.includes(`/${name}`);
    if (optional.alerts) for (const alert of list(await get("alerts?state=firing"), "alerts")) store.alert(alert);
    draw("alerts");
    if (optional.connections) panels.connections(list(await get("connections"), "connections"));
  } catch {
    // Not there, or not for this viewer: the panels stay hidden.
  }
  loadHub();
}

// ---- The stream ----

function receive(message) {
  if (message.state) {
    if (message.state === "denied") {
      failed({ kind: "denied", ...message });
      return;
    }
    change(message);
  }
  if (!message.events) return;
  const rows = [];
  for (const [type, id, text] of message.events) {
    const data = JSON.parse(text);
    if (type === "requests") rows.push(data);
    else HANDLERS[type]?.(data, id);
  }
  if (rows.length === 0) return;
  const added = store.add(rows);
  fresh += added;
  if (state.paused) set($("pause"), `Resume (${count(fresh)} new)`);
  else later(added);
}

// A table is drawn four times a second at most, and once when rows come in floods.
let feedTimer = null;
let burst = 0;
function later(added) {
  burst += added;
  feedTimer ??= setTimeout(() => {
    feedTimer = null;
    burst = 0;
    draw("feed");
  }, burst > 25 ? 1000 : 250);
}

const HANDLERS = {
  connection_established({ resume }, id) {
    meet(id);
    // What was missed is not in the stream any more: read everything anew.
    if (resume.verdict !== "full" && started) load();
  },
  stats(data) {
    if (!store.metrics) return;
    if (data.window_seconds === state.range) learn({ ...store.metrics, ...data });
    draw("numbers");
    poll();
  },
  providers({ providers }) {
    store.setProviders(providers);
    draw("numbers");
  },
  provider_status(data) {
    store.providerStatus(data);
    draw("numbers");
  },
  alert(data) {
    if (store.alert(data)) announce(`Alert: ${data.rule_name}`);
    draw("alerts");
  },
  gap({ missed }) {
    store.skipped += missed || 0;
    draw("footer");
  },
};

// ---- The connection, as one machine ----

function change(next) {
  if (next.state === "live" || connection.state === "live" || next.state === "denied") connection.since = Date.now();
  Object.assign(connection, { retryAt: null }, next);
  beat();
}

// Runs twice a second, and on each change: everything here follows from the connection's state and the time.
function beat() {
  const { state: at, since, retryAt } = connection;
  const down = at !== "live" && Date.now() - since >= BANNER_AFTER_MS;
  const lost = at === "lost" || (down && at === "retrying") || (down && at === "connecting" && started);
  const pill = at === "denied" ? ["denied", "Not signed in"]
    : lost ? ["lost", "Disconnected"]
    : at === "retrying" ? ["retrying", "Reconnecting…"]
    : at === "connecting" ? ["connecting", "Connecting…"]
    : state.paused ? ["paused", "Paused"] : ["live", "Live"];
  if (at === "denied" && connection.status === 403) pill[1] = "Not allowed";
  attr($("pill"), "data-state", pill[0]);
  set($("pill-text"), pill[1]);
  document.body.classList.toggle("lost", lost);
  const firing = store.alerts.size > 0;
  document.title = `${lost ? "⚠ " : firing ? "▲ " : ""}${meta.title}`;
  const wait = retryAt ? Math.max(0, Math.ceil((retryAt - Date.now()) / 1000)) : 0;
  const known = store.metrics ? `Showing the last known values from ${clock(store.metrics.timestamp_ms)}.` : "The server does not answer.";
  const text = trouble ?? (lost ? `Connection lost. ${known} ${wait ? `Retrying in ${wait} s.` : "Retrying…"}` : null);
  $("banner").hidden = text === null;
  if (text !== null) set($("banner-text"), text);
  const recent = restartedAt !== null && now() - restartedAt < NOTE_MS;
  $("note").hidden = !recent;
  if (recent) set($("note"), `Server restarted ${age((now() - restartedAt) / 1000)}. All counters began again.`);
}

const FIXES = {
  "not-loopback": "# look through a tunnel:\nssh -L 8080:127.0.0.1:8080 this-host\n# or let viewers sign in:\nRealtimeConfig::new(Access::bearer(viewer_token))",
};

// Refused: says what to do, instead of trying for ever.
function gate(error) {
  $("gate").hidden = !error;
  $("content").hidden = Boolean(error);
  $("footer").hidden = Boolean(error);
  if (!error) return;
  const login = error.status === 401 && (error.bearer || token !== null);
  set($("gate-title"), login ? "Sign in" : "You are not allowed to view this dashboard");
  set($("gate-text"), login
    ? (token ? "This token was not accepted. It may have been changed or have run out." : "Whoever runs this service has an access token for viewers.")
    : error.message || (error.status === 401 ? "Sign in to the service first, then try again." : `The server answered ${error.status}.`));
  const fix = FIXES[error.reason?.replaceAll("_", "-")];
  $("gate-fix").hidden = !fix;
  if (fix) set($("gate-fix"), fix);
  $("login").hidden = !login;
  $("again").hidden = login;
  if (login) $("token").focus();
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  $("token").value = "";
  memory.set("token", token, "sessionStorage");
  open();
  load();
});
const tryAgain = () => {
  if (stream && started) stream.retry();
  else load();
};
$("again").addEventListener("click", () => {
  if (started) open();
  load();
});
$("retry").addEventListener("click", tryAgain);
addEventListener("online", tryAgain);

// ---- What the viewer chooses ----

function setRange(range) {
  state.range = range;
  for (const button of $("ranges").children) button.setAttribute("aria-pressed", Number(button.dataset.range) === range);
  remember();
  if (!started) return;
  if (state.paused) setPaused(false);
  else load();
}

function setTab(tab, focus = false) {
  state.tab = tab;
  for (const button of $("tabs").children) {
    const chosen = button.dataset.tab === tab;
    button.setAttribute("aria-selected", chosen);
    button.tabIndex = chosen ? 0 : -1;
    if (chosen && focus) button.focus();
  }
  $("panel").setAttribute("aria-labelledby", `tab-${tab}`);
  remember();
  loadBreakdown();
}

function setFilter(text, interval = null) {
  Object.assign(state, { text, interval });
  if ($("filter").value !== text) $("filter").value = text;
  chips(state, (what) => {
    if (what === null) setFilter("");
    else if (what === "interval") setFilter(state.text);
    else setFilter(toggle(state.text, what), state.interval);
  });
  live.filter(text, interval);
  draw("numbers", "breakdown");
  remember();
}

function setPaused(paused) {
  state.paused = paused;
  fresh = 0;
  $("pause").setAttribute("aria-pressed", paused);
  set($("pause"), paused ? "Resume" : "Pause");
  beat();
  if (!paused) load();
}

function remember() {
  const hash = new URLSearchParams({ r: state.range, t: state.tab });
  if (state.text) hash.set("q", state.text);
  if (state.interval) hash.set("at", state.interval.join("-"));
  history.replaceState(null, "", `#${hash}`);
}

function recall() {
  const hash = new URLSearchParams(location.hash.slice(1));
  if (RANGES[hash.get("r")]) state.range = Number(hash.get("r"));
  const tab = TABS.includes(hash.get("t")) ? hash.get("t") : "routes";
  const at = /^(\d+)-(\d+)$/.exec(hash.get("at") ?? "");
  return { tab, text: hash.get("q") ?? "", interval: at && [Number(at[1]), Number(at[2])] };
}

const THEMES = [null, "light", "dark"];
function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  $("theme").setAttribute("aria-label", `Theme: ${theme ?? "system"}`);
  $("theme").title = `Theme: ${theme ?? "system"}`;
}

$("theme").addEventListener("click", () => {
  const theme = THEMES[(THEMES.indexOf(memory.get("theme")) + 1) % THEMES.length];
  memory.set("theme", theme);
  setTheme(theme);
});
$("ranges").addEventListener("click", ({ target }) => target.dataset.range && setRange(Number(target.dataset.range)));
$("pause").addEventListener("click", () => setPaused(!state.paused));
$("filter").addEventListener("input", () => setFilter($("filter").value, state.interval));
$("tabs").addEventListener("click", ({ target }) => target.dataset.tab && setTab(target.dataset.tab));
$("tabs").addEventListener("keydown", (event) => {
  const tabs = [...$("tabs").children].filter((button) => !button.hidden);
  const at = tabs.indexOf(document.activeElement);
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  setTab(tabs[(to + tabs.length) % tabs.length].dataset.tab, true);
});
$("help-open").addEventListener("click", () => $("help").showModal());
$("keys").checked = memory.get("keys") !== "off";
$("keys").addEventListener("change", () => memory.set("keys", $("keys").checked ? null : "off"));

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const typing = event.target.matches("input, textarea, select");
  if (event.key === "Escape") {
    setFilter("");
    if (typing) event.target.blur();
    return;
  }
  if (typing || !$("keys").checked) return;
  // A focused control keeps the space bar for itself.
  const control = event.target.closest("button, a, summary, [role=img], .scroll") !== null;
  if (event.key === " " && control) return;
  const range = Object.keys(RANGES)[Number(event.key) - 1];
  if (event.key === "/") $("filter").focus();
  else if (event.key === " ") setPaused(!state.paused);
  else if (event.key === "?") $("help").showModal();
  else if (event.key !== "0" && range) setRange(Number(range));
  else return;
  event.preventDefault();
});

document.addEventListener("visibilitychange", () => {
  stream?.visible(!document.hidden);
  if (document.hidden || !started) return;
  dirty.clear();
  if (!state.paused) load();
});
addEventListener("pagehide", () => stream?.close());
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  open();
  load();
});
addEventListener("hashchange", () => {
  const { tab, text, interval } = recall();
  setRange(state.range);
  setTab(tab);
  setFilter(text, interval);
});

function display(error) {
  trouble = `Display error: ${error?.message ?? error}. Reload the page.`;
  beat();
}
addEventListener("error", (event) => display(event.error ?? event.message));
addEventListener("unhandledrejection", (event) => display(event.reason));

// ---- Go ----

const chosen = location.hash.includes("r=");
const { tab, text, interval } = recall();
setTheme(memory.get("theme"));
set($("curl"), `curl -i ${location.origin}/`);
open();
load();
setTab(tab);
setFilter(text, interval);
setInterval(beat, 500);
