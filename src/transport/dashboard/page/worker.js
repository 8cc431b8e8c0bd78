// The SharedWorker's side: all tabs of a browser read one stream. Streams are told apart by address and token, so that
// a tab signed in as someone else never sees what is not its own.

import { Stream } from "./stream.js";

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

export function startWorker() {
  self.onconnect = ({ ports: [port] }) => {
    let entry;
    port.onmessage = ({ data }) => {
      if (data.join) entry = join(port, data.join);
      if ("since" in data) entry.stream.start(data.since);
      if (data.retry) entry.stream.retry();
      // A hidden tab reads everything anew when it is looked at: until then it only hears how the stream is.
      if ("visible" in data) entry.tabs.set(port, data.visible);
      if (data.leave) entry.tabs.delete(port);
      // A tab that was closed without a word leaves with its worker; this is for those that change their token.
      if (entry.tabs.size === 0) {
        entry.stream.stop();
        shared.delete(entry.key);
      }
    };
  };
}
