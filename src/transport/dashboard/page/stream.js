// One EventSource with its own reconnecting: jittered back-off, a watchdog for connections that died without a word,
// resume by position. It runs in the SharedWorker, or in the page where there is none, and posts plain messages:
//   {state: "connecting" | "live" | "retrying" | "denied", …}
//   {events: [[type, id, json], …]}

import { ask } from "./api.js";

const EVENTS = [
  "connection_established", "stats", "requests", "providers", "alert", "gap", "drain", "busy", "heartbeat",
];
const FLUSH_MS = 200;
const LONGEST_WAIT_MS = 15_000;

export class Stream {
  attempt = 0;
  batch = [];
  flushed = 0;
  status = { state: "connecting" };

  constructor({ url, api, token }, post) {
    Object.assign(this, { url, api, token, post });
  }

  // `since` is a position to continue from; without it the stream begins now. Opening an open stream changes nothing.
  start(since) {
    if (this.source || this.timer || this.opening) return;
    this.position ??= since;
    this.open();
  }

  stop() {
    clearTimeout(this.timer);
    clearTimeout(this.watchdog);
    this.timer = null;
    this.source?.close();
    this.source = null;
    this.flush();
  }

  retry() {
    if (this.status.state === "live" || this.opening) return;
    this.stop();
    this.open();
  }

  async open() {
    this.timer = null;
    this.hint = 0;
    this.heartbeat = 15_000;
    const url = new URL(this.url);
    if (this.position) url.searchParams.set("since", this.position);
    if (this.token) {
      // An EventSource sends no headers: the token buys a ticket that is good for one opening.
      this.opening = true;
      try {
        url.searchParams.set("ticket", (await ask(`${this.api}/ticket`, this.token, "POST")).ticket);
      } catch (refusal) {
        return this.refused(refusal);
      } finally {
        this.opening = false;
      }
    }
    const source = new EventSource(url);
    this.source = source;
    for (const type of EVENTS) source.addEventListener(type, (event) => this.source === source && this.take(type, event));
    source.onerror = () => this.source === source && this.failed();
    this.watch();
  }

  take(type, { data, lastEventId }) {
    this.watch();
    if (lastEventId) this.position = lastEventId;
    if (type === "connection_established") {
      this.attempt = 0;
      this.heartbeat = JSON.parse(data).heartbeat_ms;
      this.tell({ state: "live" });
    }
    if (type === "busy" || type === "drain") this.hint = JSON.parse(data).retry_ms;
    this.batch.push([type, lastEventId, data]);
    // The first event after quiet goes on at once; what follows it shortly goes together.
    this.flushing ??= setTimeout(() => this.flush(), Math.max(0, this.flushed + FLUSH_MS - Date.now()));
    if (type === "busy") this.failed();
  }

  flush() {
    clearTimeout(this.flushing);
    this.flushing = null;
    this.flushed = Date.now();
    if (this.batch.length) this.post({ events: this.batch.splice(0) });
  }

  // Two missed heartbeats and a bit: the other side is gone, even if no one told the socket.
  watch() {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => this.failed(), this.heartbeat * 2 + 5000);
  }

  async failed() {
    const { state } = this.status;
    this.stop();
    // An EventSource does not say why it was refused; a read with the same access does.
    if (state !== "live") {
      try {
        await ask(`${this.api}/info`, this.token);
      } catch (refusal) {
        return this.refused(refusal);
      }
    }
    this.later();
  }

  refused(refusal) {
    if (refusal.kind === "denied") this.tell({ state: "denied", refusal });
    else this.later(refusal.after);
  }

  later(after = this.hint) {
    if (this.timer || this.source || this.opening) return;
    const step = Math.min(LONGEST_WAIT_MS, 500 * 2 ** this.attempt++);
    // Jitter around the step, so that a thousand pages do not come back in the same instant.
    const wait = after || step * (0.5 + Math.random());
    this.timer = setTimeout(() => this.open(), wait);
    this.tell({ state: "retrying", retryAt: Date.now() + wait });
  }

  tell(status) {
    this.status = status;
    this.post(status);
  }
}
