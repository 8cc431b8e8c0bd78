// What is said about the connection: the pill, the banner, the title, and the gate for those who may not look.

import { $, attr, set, show } from "./dom.js";
import { asClock } from "./format.js";

const BANNER_AFTER_MS = 3000;

// A blink of the connection shows in the pill only; what lasts dims the page and says how old its numbers are.
export function drawConnection({ state, since, retryAt, refusal, paused, trouble, metrics, hasAlerts, title }) {
  const lost = state === "retrying" && Date.now() - since >= BANNER_AFTER_MS;
  const [look, word] = {
    live: paused ? ["paused", "Paused"] : ["live", "Live"],
    retrying: lost ? ["lost", "Disconnected"] : ["retrying", "Reconnecting…"],
    denied: ["lost", refusal?.status === 401 ? "Not signed in" : "Not allowed"],
    connecting: ["connecting", "Connecting…"],
  }[state];
  attr($("pill"), "data-state", look);
  set($("pill-text"), word);
  document.body.classList.toggle("lost", lost);
  document.title = `${lost ? "⚠ " : hasAlerts ? "▲ " : ""}${title}`;
  const wait = Math.ceil((retryAt - Date.now()) / 1000);
  const known = metrics ? `Showing the last known values from ${asClock(metrics.timestamp_ms)}.` : "The server does not answer.";
  show($("banner"), trouble || lost);
  set($("banner-text"), trouble || `Connection lost. ${known} ${wait > 0 ? `Retrying in ${wait} s.` : "Retrying…"}`);
}

// Refused: says what to do (the server's own sentence names the setting), instead of trying for ever.
export function drawGate(refusal, token) {
  show($("gate"), refusal);
  show($("content"), !refusal);
  show($("footer"), !refusal);
  if (!refusal) return;
  const { status, bearer, message } = refusal;
  const login = status === 401 && (bearer || token);
  set($("gate-title"), login ? "Sign in" : "You are not allowed to view this dashboard");
  set($("gate-text"), login
    ? token ? "This token was not accepted." : "Whoever runs this service has an access token for viewers."
    : message || `The server answered ${status}.`);
  show($("login"), login);
  show($("again"), !login);
  if (login) $("token").focus();
}
