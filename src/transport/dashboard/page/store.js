// What the page knows. Arrays are replaced, never changed, so that a frozen view is a kept reference.

export const KEEP = 500;

// A host's own request ids may repeat when a client tries again, so the id alone does not name a row.
export const rowKey = (row) => `${row.id}|${row.timestamp_ms}|${row.latency_ms}`;

export class Store {
  constructor() {
    this.providers = new Map();
    this.metrics = null;
    this.series = null;
    this.reset();
  }

  // The registry of providers is not counted anew: it is replaced as a whole whenever it comes.
  reset() {
    this.rows = []; // newest first
    this.keys = new Set();
    this.alerts = new Map();
    this.skipped = 0;
  }

  // Rows in any order, from the stream or from REST; the same row may come by both ways. Returns how many were new.
  add(rows) {
    const fresh = [];
    for (const row of rows) {
      const key = rowKey(row);
      if (this.keys.has(key)) continue;
      this.keys.add(key);
      fresh.push(row);
    }
    if (fresh.length === 0) return 0;
    const newestFirst = (a, b) => b.timestamp_ms - a.timestamp_ms;
    fresh.sort(newestFirst);
    const all = fresh.concat(this.rows);
    // The live case needs no sort: everything new is newer.
    if (this.rows.length && fresh.at(-1).timestamp_ms < this.rows[0].timestamp_ms) all.sort(newestFirst);
    for (const row of all.slice(KEEP)) this.keys.delete(rowKey(row));
    this.rows = all.slice(0, KEEP);
    return fresh.length;
  }

  // Alerts of one rule replace each other until they are resolved. Returns true when it starts to fire.
  alert(alert) {
    const id = alert.alert_id ?? alert.rule_id;
    const before = this.alerts.get(id)?.state;
    if (alert.state === "firing") this.alerts.set(id, alert);
    else this.alerts.delete(id);
    return alert.state === "firing" && before !== "firing";
  }

  setProviders(list) {
    this.providers = new Map(list.map((provider) => [provider.id, provider]));
  }

  providerStatus(event) {
    const id = event.provider_id ?? event.id;
    if (this.providers.has(id)) this.providers.set(id, { ...this.providers.get(id), ...event, id });
  }
}

// `<epoch>-<seq>`: a new epoch is a new life of the server. Anything else is an unknown position.
export function epoch(position) {
  return /^(\d+)-\d+$/.exec(position ?? "")?.[1] ?? null;
}
