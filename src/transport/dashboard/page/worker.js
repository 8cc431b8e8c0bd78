// The SharedWorker's side: all tabs of a browser read one stream. Streams are told apart by address and token, so that
// a tab signed in as someone else never sees what is not its own.

import { Stream } from "./stream.js";

const IDLE_MS = 60_000;
const shared = new Map();

function join(port, options) {
  const key = `${options.url} ${options.token}`;
  if (!shared.has(key)) {
    const tabs = new Map();
    const stream = new Stream(options, (message) => {
      for (const [tab, visible] of tabs) if (visible || message.state) tab.postMessage(message);
    });
    shared.set(key, { tabs, stream, key });
  }
  const entry = shared.get(key);
  entry.tabs.set(port, true);
  port.postMessage(entry.stream.status);
  return entry;
}

// A hidden tab reads everything anew when it is looked at, so nobody needs the stream while all are hidden.
function rest(entry) {
  const { tabs, stream } = entry;
  clearTimeout(entry.idle);
  if ([...tabs.values()].includes(true)) {
    if (!entry.asleep) return;
    entry.asleep = false;
    stream.position = null;
    stream.retry();
    return;
  }
  entry.idle = setTimeout(() => {
    entry.asleep = true;
    stream.stop();
    stream.tell({ state: "connecting" });
    if (tabs.size === 0) shared.delete(entry.key);
  }, tabs.size && IDLE_MS);
}

export function startWorker() {
  self.onconnect = ({ ports: [port] }) => {
    let entry;
    port.onmessage = ({ data }) => {
      if (data.join) entry = join(port, data.join);
      if ("since" in data) entry.stream.start(data.since);
      if (data.retry) entry.stream.retry();
      if ("visible" in data) entry.tabs.set(port, data.visible);
      if (data.leave) entry.tabs.delete(port);
      rest(entry);
    };
  };
}
