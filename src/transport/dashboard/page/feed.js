// The live requests: filter, hold while someone reads, files of what is seen.

import { $, el, set } from "./dom.js";
import { clock, count } from "./format.js";
import { csv, copy, download, json } from "./export.js";
import { matcher, words } from "./filter.js";
import { Rows } from "./rows.js";

const SHOWN = 100;

export function feed({ announce }) {
  const copied = async (row) => {
    await copy(json(row));
    announce("Copied");
  };
  const rows = new Rows($("feed-table"), {
    names: ["time", "request", "status", "latency", "ttfb", "model", "user", "tokens", "cost", "size"],
    caption: "Live requests, newest first", hold: () => update(), copied,
  });
  const box = $("feed-table").parentElement;
  let all = [];
  let kept = []; // what is on the screen: `all`, or older while it is held
  let matching = [];
  let query = { text: "", interval: null };
  let hovered = false;
  let released = false;

  // New rows must not push away what someone points at, reads, selects or has the focus in.
  const held = () => {
    if (released) return false;
    const selection = getSelection();
    return hovered || rows.open !== null || box.querySelector(":focus-visible") !== null
      || (selection.type === "Range" && box.contains(selection.anchorNode));
  };

  function update(force = false) {
    if (!rows.columns) return;
    if (force || !held()) {
      kept = all;
      released = false;
    }
    matching = kept.filter(matcher(query.text, query.interval));
    rows.render(matching.slice(0, SHOWN));
    const newest = kept[0];
    const waiting = kept === all ? 0 : newest ? all.indexOf(newest) : all.length;
    $("more").hidden = waiting === 0;
    if (waiting) set($("more"), `${waiting < 0 ? `${all.length}+` : waiting} new – click to show`);
    const filtered = query.text !== "" || query.interval !== null;
    set($("matches"), filtered ? `${count(matching.length)} / ${count(kept.length)}` : `${count(kept.length)} kept`);
    const empty = $("feed-empty");
    empty.hidden = matching.length > 0;
    set(empty, kept.length === 0 ? "No requests yet."
      : `None of the ${count(kept.length)} requests kept here, back to ${clock(kept.at(-1).timestamp_ms)}, matches the filter.`);
  }

  box.addEventListener("pointerenter", (event) => {
    hovered = event.pointerType === "mouse";
  });
  box.addEventListener("pointerleave", () => {
    hovered = false;
    update();
  });
  box.addEventListener("focusout", () => setTimeout(update));
  $("more").addEventListener("click", () => {
    released = true;
    rows.close();
    update(true);
  });
  const name = () => `requests-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}`;
  $("csv").addEventListener("click", () => download(`${name()}.csv`, "text/csv;charset=utf-8", csv(matching)));
  $("json").addEventListener("click", () => download(`${name()}.json`, "application/json", json(matching)));

  return {
    adapt: (capabilities, currency) => rows.adapt(capabilities, currency),
    rows(list) {
      all = list;
      update();
    },
    filter(text, interval) {
      query = { text, interval };
      update();
    },
    close: () => rows.close(),
  };
}

// The words of the filter as buttons that take them away, under the header so that they are seen from everywhere.
export function chips({ text, interval }, remove) {
  const chip = (label, what) =>
    el("button", { class: "chip", "aria-label": `Remove filter ${label}`, onclick: () => remove(what) }, label, el("b", { "aria-hidden": "true" }, "×"));
  const all = words(text).map((word) => chip(word, word));
  if (interval) all.push(chip(`${clock(interval[0] * 1000)} – ${clock(interval[1] * 1000)}`, "interval"));
  const bar = $("chips");
  bar.hidden = all.length === 0;
  bar.replaceChildren(el("span", { class: "dim" }, "Filter"), ...all, el("button", { class: "chip clear", onclick: () => remove(null) }, "Clear"));
}
