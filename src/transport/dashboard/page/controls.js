// What the viewer chooses: range, tab, filter, theme, keys. Choices stand in the address, so that a view can be pasted.

import { $, attr, memory } from "./dom.js";

// Seconds to the window's name and the width of its buckets.
export const RANGES = { 60: ["1m", 1], 300: ["5m", 5], 900: ["15m", 15], 3600: ["1h", 60] };

export const chosen = { range: 300, tab: "routes", text: "", interval: null };

export function readAddress() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const at = /^(\d+)-(\d+)$/.exec(hash.get("at"));
  if (RANGES[hash.get("r")]) chosen.range = Number(hash.get("r"));
  if ($(`tab-${hash.get("t")}`)) chosen.tab = hash.get("t");
  chosen.text = hash.get("q") ?? "";
  chosen.interval = at && [Number(at[1]), Number(at[2])];
}

// Brings the controls and the address in line with what is chosen.
export function showChosen() {
  const { range, tab, text, interval } = chosen;
  const hash = new URLSearchParams({ r: range, t: tab });
  if (text) hash.set("q", text);
  if (interval) hash.set("at", interval.join("-"));
  history.replaceState(null, "", `#${hash}`);
  for (const button of $("ranges").children) attr(button, "aria-pressed", button.value === String(range));
  for (const button of $("tabs").children) {
    attr(button, "aria-selected", button.value === tab);
    button.tabIndex = button.value === tab ? 0 : -1;
  }
  attr($("panel"), "aria-labelledby", `tab-${tab}`);
  if ($("filter").value !== text) $("filter").value = text;
}

const THEMES = ["system", "light", "dark"];

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  attr($("theme"), "aria-label", `Theme: ${theme}`);
}

// `on`: {range(seconds), tab(name), filter(text), pause(), clear()}.
export function wireControls(on) {
  setTheme(memory("localStorage", "theme") ?? "system");
  $("theme").onclick = () => {
    const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % 3];
    memory("localStorage", "theme", theme);
    setTheme(theme);
  };
  if (location.search.includes("embed=1")) document.body.classList.add("embed");
  $("ranges").onclick = ({ target }) => target.value && on.range(Number(target.value));
  $("tabs").onclick = ({ target }) => target.value && on.tab(target.value);
  $("tabs").onkeydown = (event) => {
    const tabs = [...$("tabs").children].filter((tab) => !tab.hidden);
    const at = tabs.indexOf(event.target);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: -1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const tab = tabs.at(to % tabs.length);
    on.tab(tab.value);
    tab.focus();
  };
  $("filter").oninput = () => on.filter($("filter").value);
  $("pause").onclick = on.pause;
  $("help-open").onclick = () => $("help").showModal();
  $("help-close").onclick = () => $("help").close();
  $("keys").checked = memory("localStorage", "keys") !== "off";
  $("keys").onchange = () => memory("localStorage", "keys", $("keys").checked ? null : "off");

  addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
    if (key === "Escape") {
      on.clear();
      target.blur();
    }
    // A field takes all keys, a focused control keeps the space bar for itself.
    if (target.matches("input:not([type=checkbox])") || !$("keys").checked || (key === " " && target.closest("a, button, summary, [tabindex]"))) return;
    const range = Object.keys(RANGES)[key - 1];
    if (range) on.range(Number(range));
    else if (key === "/") $("filter").focus();
    else if (key === " ") on.pause();
    else if (key === "?") $("help").showModal();
    else return;
    event.preventDefault();
  });
}
