// The SharedWorker: all tabs of a browser read one stream. Streams are told apart by address and token, so that a tab
// signed in as someone else never sees what is not its own.

import { Stream } from "./stream.js";

const IDLE_MS = 60_000;
const shared = new Map();

function join(port, { url, api, token }) {
  const key = `${url}\n${token ?? ""}`;
  let entry = shared.get(key);
  if (!entry) {
    entry = { key, tabs: new Map() };
    entry.stream = new Stream({ url, api, token }, (message) => {
      for (const [tab, visible] of entry.tabs) if (visible || message.state) tab.postMessage(message);
    });
    shared.set(key, entry);
  }
  entry.tabs.set(port, true);
  port.postMessage(entry.stream.status);
  return entry;
}

// A hidden tab reads everything anew when it is looked at, so nobody needs the stream while all are hidden.
function rest(entry) {
  clearTimeout(entry.idle);
  if ([...entry.tabs.values()].includes(true)) {
    if (!entry.sleeping) return;
    // From now on: the tab reads what it missed by REST.
    entry.sleeping = false;
    entry.stream.position = undefined;
    entry.stream.retry();
    return;
  }
  entry.idle = setTimeout(() => {
    entry.sleeping = true;
    entry.stream.stop();
    entry.stream.tell({ state: "connecting" });
    if (entry.tabs.size === 0) shared.delete(entry.key);
  }, entry.tabs.size ? IDLE_MS : 0);
}

self.onconnect = ({ ports: [port] }) => {
  let entry = null;
  port.onmessage = ({ data }) => {
    if (data.join) entry = join(port, data.join);
    if (!entry) return;
    if ("start" in data) entry.stream.start(data.start);
    if (data.retry) entry.stream.retry();
    if ("visible" in data) entry.tabs.set(port, data.visible);
    if (data.leave) entry.tabs.delete(port);
    rest(entry);
  };
};
