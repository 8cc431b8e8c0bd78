// The page's end of the stream: the SharedWorker's where there is one, its own otherwise. Both look the same from here.

import { Stream } from "./stream.js";

const ANSWER_MS = 3000;

export function openLink(options, receive) {
  let port;
  let own;
  let start;
  const alone = () => {
    if (own) return;
    port?.postMessage({ leave: true });
    own = new Stream(options, receive);
    if (start) own.start(start.since);
  };
  try {
    // The page's own script, which serves tabs when it finds itself without a document.
    const worker = new SharedWorker(document.querySelector("script").src, { type: "module" });
    const silence = setTimeout(alone, ANSWER_MS);
    worker.onerror = alone;
    port = worker.port;
    port.onmessage = ({ data }) => {
      clearTimeout(silence);
      if (!own) receive(data);
    };
    port.postMessage({ join: options });
  } catch {
    alone();
  }
  return {
    start(since) {
      start = { since };
      if (own) own.start(since);
      else port.postMessage(start);
    },
    retry: () => (own ? own.retry() : port.postMessage({ retry: true })),
    visible: (visible) => port?.postMessage({ visible }),
    close: () => (own ? own.stop() : port.postMessage({ leave: true })),
  };
}
