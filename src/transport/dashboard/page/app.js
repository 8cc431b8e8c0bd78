// The page: first a picture from REST, then the stream; all is drawn once a frame, and only while someone looks.

import { ask } from "./api.js";
import { drawConnection, drawGate } from "./connection.js";
import { RANGES, chosen, readAddress, showChosen, wireControls } from "./controls.js";
import { $, attr, memory, set, show } from "./dom.js";
import { Feed, RequestList, drawChips } from "./feed.js";
import { exactWord, matcher, toggleWord, words } from "./filter.js";
import { asAge, asClock, asCount, asSpan, setCurrency } from "./format.js";
import { openLink } from "./link.js";
import { drawAlerts, drawBreakdown, drawCharts, drawFooter, drawProviders, drawTiles } from "./panels.js";
import { Store, epochOf } from "./store.js";

const BREAKDOWNS = { routes: "route", models: "model", users: "user" };
const STREAM = "?channels=stats,requests,providers,alerts&window=5m";
const NOTE_MS = 60_000;

let meta, api, token, link, feed, lists;
let store = new Store();
let metrics, series, hub, info; // the last answers
let breakdown; // {tab, data}
let providers = new Map();
let alerts = new Map();
let skipped = 0;
let skew = 0;
let epoch, restartedAt, noticedAt;
let started = false;
let explicit = false; // the address names a range
let paused = false;
let fresh = 0; // rows since the pause
let trouble; // a text for the banner that no reconnecting takes away
let connection = { state: "connecting", since: Date.now() };

const get = (path) => ask(`${api}/${path}`, token);
const now = () => Date.now() + skew;

// ---- Drawing ----

const isActive = (field, value) => words(chosen.text).includes(exactWord(field, value));
const pick = (field, value) => choose({ text: toggleWord(chosen.text, exactWord(field, value)) });

// A hidden tab gets no frames: what it would draw waits, once.
const dirty = new Set();
let frame = 0;
function draw(...parts) {
  for (const part of parts) dirty.add(part);
  frame ||= requestAnimationFrame(drawNow);
}

function drawNow() {
  frame = 0;
  if (paused || !metrics || !series) return;
  for (const part of dirty) PARTS[part]();
  dirty.clear();
}

const PARTS = {
  numbers() {
    const { capabilities } = metrics;
    const empty = !metrics.lifetime.total_requests && !store.rows.length;
    document.body.classList.remove("loading");
    setCurrency(metrics.currency);
    show($("empty"), empty);
    show($("panels"), !empty);
    set($("as-of"), `as of ${asClock(metrics.timestamp_ms)}`);
    for (const node of document.querySelectorAll(".window")) set(node, `last ${asSpan(metrics.window_seconds)}`);
    drawTiles(metrics, series.points);
    drawProviders(metrics, providers, pick, isActive);
    show($("tab-models"), capabilities.providers);
    show($("tab-users"), capabilities.users);
    if ($(`tab-${chosen.tab}`).hidden) choose({ tab: "routes" });
    feed.adapt(capabilities);
    PARTS.footer();
  },
  charts() {
    const last = store.rows[0];
    const quiet = metrics.total_requests ? "" : `No requests in the last ${asSpan(chosen.range)}${last ? ` – last one ${asAge((now() - last.timestamp_ms) / 1000)}` : ""}`;
    const frame = { ...series, started: metrics.started_at, word: restartedAt ? "restart" : "start" };
    drawCharts(metrics, series, frame, quiet, (from, to) => choose({ interval: [from, to] }));
  },
  feed() {
    feed.all = store.rows;
    feed.query = chosen;
    feed.render();
  },
  breakdown() {
    const { tab, data } = breakdown ?? {};
    if (tab !== chosen.tab) return;
    const list = lists[tab];
    const rows = list ? data.filter(matcher(chosen)) : data.rows;
    show($("breakdown-table"), !list && rows.length);
    for (const name in lists) show(lists[name].node, name === tab && rows.length);
    show($("panel-empty"), !rows.length);
    set($("panel-empty"), tab === "errors" ? "No errors." : `No requests in the last ${asSpan(chosen.range)}.`);
    list?.adapt(metrics.capabilities);
    if (list) list.update(rows);
    else drawBreakdown(data, BREAKDOWNS[tab], metrics.capabilities, pick, isActive);
  },
  alerts: () => drawAlerts([...alerts.values()]),
  footer: () => drawFooter({ metrics, hub, info, skew, skipped }),
};

// ---- Reading ----

const metricsPath = () => `metrics?window=${RANGES[chosen.range][0]}`;
const seriesPath = () => `series?range=${chosen.range}&step=${RANGES[chosen.range][1]}`;
let reading = 0;
let again;

function learn(next) {
  metrics = next;
  skew = metrics.timestamp_ms - Date.now();
  // Everything below a second is the way of the packets, not the clock.
  if (Math.abs(skew) < 1000) skew = 0;
}

async function load() {
  const mine = ++reading;
  clearTimeout(again);
  try {
    const [first, points, recent] = await Promise.all([get(metricsPath()), get(seriesPath()), get("requests?limit=500")]);
    if (mine !== reading) return;
    // A young process has nothing to show on five minutes; its first minute fills before one's eyes.
    if (!started && !explicit && first.uptime_seconds < 120) {
      explicit = true;
      choose({ range: 60 });
      return load();
    }
    meet(recent.position);
    if (restartedAt) restartedAt = first.started_at * 1000;
    learn(first);
    series = points;
    store.add(recent.requests);
    fresh = 0;
    trouble = null;
    drawGate();
    link.start(recent.position);
    draw("numbers", "charts", "feed", "alerts");
    loadBreakdown();
    if (!started) loadRest();
    started = true;
  } catch (refusal) {
    if (mine === reading) failed(refusal);
  }
}

// A new epoch is a new life of the server: nothing that was counted before holds.
function meet(position) {
  const next = epochOf(position);
  if (epoch && next && next !== epoch) {
    feed.close();
    store = new Store();
    alerts.clear();
    skipped = 0;
    restartedAt = noticedAt = now();
    loadRest();
  }
  epoch = next ?? epoch;
}

function failed(refusal) {
  const { kind, type } = refusal;
  if (kind === "denied") return change({ state: "denied", refusal });
  if (!kind) throw refusal;
  // Once there is a stream, it speaks for the connection.
  if (started) return;
  if (kind === "misplaced") {
    trouble = `The API is not at the expected place: ${api} answered with ${type}. Is a proxy rewriting the path?`;
    return beat();
  }
  const wait = 1000 + Math.random() * 3000;
  again = setTimeout(load, wait);
  change({ state: "retrying", retryAt: Date.now() + wait });
}

let polling = false;
async function poll(stale) {
  if (polling || document.hidden || paused || !series) return;
  polling = true;
  const { range } = chosen;
  try {
    const due = now() / 1000 >= series.to + series.step;
    const [next, points] = await Promise.all([stale && get(metricsPath()), due && get(seriesPath())]);
    if (range === chosen.range && !paused) {
      if (next) learn(next);
      if (points) series = points;
      draw("numbers", ...(points ? ["charts"] : []));
    }
  } catch (refusal) {
    failed(refusal);
  }
  polling = false;
}

const idle = () => document.hidden || paused || connection.state !== "live";

async function loadBreakdown() {
  const { tab, range } = chosen;
  const path = tab === "errors" ? "errors?limit=100" : tab === "slow" ? `slow?range=${range}` : `breakdown?by=${BREAKDOWNS[tab]}&range=${range}`;
  // A read that fails is tried again in the next round; the stream's state tells about the connection.
  const data = await get(path).catch(() => null);
  if (!data || tab !== chosen.tab || range !== chosen.range) return;
  breakdown = { tab, data: data[tab] ?? data };
  draw("breakdown");
}

// What concerns the whole server is not for a tenant's viewer.
async function loadHub() {
  if (info && !info.principal?.tenant_id) hub = await get("hub/stats").catch(() => hub);
  draw("footer");
}

// Alerts are asked for only where the server says that it has them.
async function loadRest() {
  get("providers").then(HANDLERS.providers, () => {});
  info = await get("info").catch(() => info);
  loadHub();
  const { alerts: firing = [] } = (info?.endpoints?.alerts && (await get("alerts?state=firing").catch(() => null))) || {};
  for (const alert of firing) HANDLERS.alert(alert);
}

// ---- The stream ----

function connect() {
  link?.close();
  link = openLink({ url: meta.stream + STREAM, api, token }, receive);
}

function receive({ state, events = [], ...rest }) {
  // "connecting" is no news, and must not hide why a viewer was refused.
  if (state && state !== "connecting") change({ state, ...rest });
  const rows = [];
  for (const [type, id, text] of events) {
    const data = JSON.parse(text);
    if (type === "requests") rows.push(data);
    else HANDLERS[type]?.(data, id);
  }
  if (!rows.length) return;
  fresh += store.add(rows);
  if (paused) set($("pause"), `Resume (${asCount(fresh)} new)`);
  else drawFeedSoon(rows.length);
}

// The table is drawn four times a second at most, and once when rows come in floods.
let feedTimer;
function drawFeedSoon(rows) {
  feedTimer ??= setTimeout(() => {
    feedTimer = null;
    draw("feed");
  }, rows > 25 ? 1000 : 250);
}

const HANDLERS = {
  connection_established({ resume }, id) {
    meet(id);
    loadHub();
    // What was missed is not in the stream any more: read everything anew.
    if (resume.verdict !== "full" && started) load();
  },
  stats(data) {
    if (!metrics) return;
    // The stream has one window for all tabs; another range's numbers come by REST at the same pace.
    const other = data.window_seconds !== chosen.range;
    if (!other) learn({ ...metrics, ...data });
    draw("numbers");
    poll(other);
  },
  providers({ providers: list }) {
    providers = new Map(list.map((provider) => [provider.id, provider]));
    draw("numbers");
  },
  alert(data) {
    const id = data.alert_id;
    if (data.state === "firing" && !alerts.has(id)) set($("announce"), `Alert: ${data.rule_name}`);
    if (data.state === "firing") alerts.set(id, data);
    else alerts.delete(id);
    draw("alerts");
  },
  gap({ missed }) {
    skipped += missed ?? 0;
    draw("footer");
  },
};

// ---- The connection, as one machine ----

function change(next) {
  const since = connection.state === "live" || next.state === "live" ? Date.now() : connection.since;
  connection = { since, ...next };
  if (next.state === "denied") drawGate(next.refusal, token);
  beat();
}

// Runs twice a second and on each change: all that it shows follows from the connection's state and the time.
function beat() {
  drawConnection({ ...connection, paused, trouble, metrics, hasAlerts: alerts.size, title: meta.title });
  show($("note"), now() - noticedAt < NOTE_MS);
  set($("note"), `Server restarted ${asAge((now() - restartedAt) / 1000)}. All counters began again.`);
}

function retry() {
  if (started) link.retry();
  else load();
}

// ---- What the viewer chooses ----

function choose(change) {
  Object.assign(chosen, change);
  showChosen();
  drawChips(chosen, (what) => choose(what === null ? { text: "", interval: null } : what === "interval" ? { interval: null } : { text: toggleWord(chosen.text, what) }));
  if ("range" in change && started) pause(false);
  if ("tab" in change && started) loadBreakdown();
  feed.query = chosen;
  feed.render();
  draw("numbers", "breakdown");
}

function pause(next) {
  paused = next;
  fresh = 0;
  attr($("pause"), "aria-pressed", paused);
  set($("pause"), paused ? "Resume" : "Pause");
  beat();
  if (!paused) load();
}

function complain(error) {
  trouble = `Display error: ${error.message ?? error}. Reload the page.`;
  beat();
}

export function startPage() {
  // Without an error it is a notice, as of a ResizeObserver that has to wait.
  addEventListener("error", ({ error }) => error && complain(error));
  addEventListener("unhandledrejection", ({ reason }) => complain(reason));
  const absolute = (path) => new URL(path, document.baseURI).href;
  meta = { ...document.querySelector("meta[name=realtime]").dataset };
  meta.stream = absolute(meta.stream);
  api = absolute(meta.api);
  token = memory("sessionStorage", "token");
  explicit = location.hash.includes("r=");
  feed = new Feed();
  lists = {
    errors: new RequestList($("errors-table"), "Last errors", "time request status latency model user message"),
    slow: new RequestList($("slow-table"), "Slowest requests", "time request status latency ttfb model user tokens"),
  };
  wireControls({
    range: (range) => choose({ range }),
    tab: (tab) => choose({ tab }),
    filter: (text) => choose({ text }),
    clear: () => choose({ text: "", interval: null }),
    pause: () => pause(!paused),
  });
  $("login").onsubmit = (event) => {
    event.preventDefault();
    token = $("token").value.trim();
    $("token").value = "";
    memory("sessionStorage", "token", token);
    connect();
    load();
  };
  $("retry").onclick = retry;
  $("again").onclick = () => {
    connect();
    load();
  };
  addEventListener("online", retry);
  document.addEventListener("visibilitychange", () => {
    link.visible(!document.hidden);
    if (!document.hidden && started && !paused) load();
  });
  addEventListener("pagehide", () => link.close());
  addEventListener("pageshow", ({ persisted }) => persisted && $("again").click());
  set($("curl"), `curl -i ${location.origin}/`);
  readAddress();
  choose({});
  connect();
  load();
  setInterval(beat, 500);
  setInterval(() => idle() || loadBreakdown(), 5000);
  setInterval(() => idle() || loadHub(), 10_000);
}
