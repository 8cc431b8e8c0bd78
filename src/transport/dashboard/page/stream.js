// One EventSource with its own reconnecting: jittered back-off, a watchdog for connections that died without a word,
// resume by position. It runs in the SharedWorker, or in the page where there is none, and speaks in plain messages:
//   {state: "connecting" | "live" | "retrying" | "denied" | "misplaced", retryAt, …}
//   {events: [[type, id, json], …]}

import { request } from "./api.js";

const EVENTS = [
  "connection_established", "stats", "requests", "providers", "provider_status", "alert", "gap", "drain", "busy",
  "heartbeat", "server_error",
];
const FLUSH_MS = 200;
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000, 15_000];

export class Stream {
  constructor({ url, api, token }, post) {
    this.url = url;
    this.api = api;
    this.token = token;
    this.post = post;
    this.attempt = 0;
    this.batch = [];
    this.status = { state: "connecting" };
  }

  // `since` is a position to continue from; without it the stream begins now. Opening an open stream changes nothing.
  start(since) {
    if (this.source || this.timer || this.opening) return;
    this.position ??= since;
    this.open();
  }

  stop() {
    this.drop();
    clearTimeout(this.timer);
    this.timer = null;
  }

  retry() {
    if (this.status.state === "live" || this.opening) return;
    this.stop();
    this.open();
  }

  async open() {
    this.timer = null;
    this.opening = true;
    const url = new URL(this.url);
    if (this.position) url.searchParams.set("since", this.position);
    try {
      // An EventSource sends no headers: the token buys a ticket that is good for one opening.
      if (this.token) {
        const { ticket } = await request(`${this.api}/ticket`, { token: this.token, method: "POST" });
        url.searchParams.set("ticket", ticket);
      }
    } catch (error) {
      this.opening = false;
      this.refused(error);
      return;
    }
    this.opening = false;
    this.hint = null;
    this.heartbeat = 15_000;
    const source = new EventSource(url);
    this.source = source;
    for (const type of EVENTS) {
      source.addEventListener(type, (event) => this.source === source && this.take(type, event));
    }
    source.onerror = () => this.source === source && this.failed();
    this.alive();
  }

  take(type, event) {
    this.alive();
    if (event.lastEventId) this.position = event.lastEventId;
    if (type === "connection_established") {
      this.attempt = 0;
      this.heartbeat = JSON.parse(event.data).heartbeat_ms || this.heartbeat;
      this.tell({ state: "live" });
    } else if (type === "busy" || type === "drain") {
      this.hint = JSON.parse(event.data).retry_ms;
      if (type === "busy") this.failed();
    }
    this.batch.push([type, event.lastEventId, event.data]);
    // The first event after quiet goes on at once; what follows it shortly goes together.
    this.flushing ??= setTimeout(() => this.flush(), Math.max(0, (this.flushed ?? 0) + FLUSH_MS - Date.now()));
  }

  flush() {
    this.flushing = null;
    this.flushed = Date.now();
    if (this.batch.length) this.post({ events: this.batch.splice(0) });
  }

  // Two missed heartbeats and a bit: the other side is gone, even if no one told the socket.
  alive() {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => this.failed(), this.heartbeat * 2 + 5000);
  }

  drop() {
    clearTimeout(this.watchdog);
    this.source?.close();
    this.source = null;
    this.flush();
  }

  async failed() {
    const wasLive = this.status.state === "live";
    this.drop();
    if (wasLive) return this.later();
    // An EventSource does not say why it was refused; a read of the same access does.
    try {
      await request(`${this.api}/info`, { token: this.token });
      this.later();
    } catch (error) {
      this.refused(error);
    }
  }

  refused(error) {
    if (error.kind !== "denied") return this.later(error.after);
    const { status, reason, bearer, message } = error;
    this.tell({ state: "denied", status, reason, bearer, message });
  }

  later(after = this.hint) {
    if (this.timer || this.source || this.opening) return;
    const step = BACKOFF_MS[Math.min(this.attempt, BACKOFF_MS.length - 1)];
    this.attempt += 1;
    // Full jitter around the step, so that a thousand pages do not come back in the same instant.
    const wait = after > 0 ? after : step * (0.5 + Math.random());
    this.timer = setTimeout(() => this.open(), wait);
    this.tell({ state: "retrying", retryAt: Date.now() + wait });
  }

  tell(status) {
    this.status = status;
    this.post(status);
  }
}
