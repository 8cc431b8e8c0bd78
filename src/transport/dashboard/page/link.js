// The page's end of the stream: the SharedWorker's where there is one, its own otherwise. Both look the same from here.

import { Stream } from "./stream.js";

const ANSWER_MS = 3000;

export function link(options, receive) {
  let port = null;
  let own = null;
  let started;

  const fallBack = () => {
    if (own) return;
    port?.close();
    port = null;
    own = new Stream(options, receive);
    if (started) own.start(started.since);
  };

  try {
    const worker = new SharedWorker(new URL("./worker.js", import.meta.url), { type: "module", name: "realtime" });
    const silence = setTimeout(fallBack, ANSWER_MS);
    worker.onerror = fallBack;
    port = worker.port;
    port.onmessage = ({ data }) => {
      clearTimeout(silence);
      receive(data);
    };
    port.postMessage({ join: options });
  } catch {
    fallBack();
  }

  return {
    shared: () => own === null,
    start(since) {
      started = { since };
      if (own) own.start(since);
      else port.postMessage({ start: since });
    },
    retry: () => (own ? own.retry() : port.postMessage({ retry: true })),
    visible: (visible) => port?.postMessage({ visible }),
    close: () => (own ? own.stop() : port.postMessage({ leave: true })),
  };
}
