// One vocabulary for the tests of the page: start a gateway, open the page, wait for what it shows.
//
//   GATEWAY (or GATEWAY_BIN)   the compiled example `gateway`; without it, tests that need one of their own are skipped
//   BASE_URL                   a page that is already running, for the tests that need nothing else
//   CHROMIUM                   the browser (default: chromium, found on the PATH)
//   NODE_TOOLS                 a directory whose node_modules holds playwright-core (default: the usual way)

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, existsSync } from "node:fs";
import { createRequire } from "node:module";
import http from "node:http";
import net from "node:net";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const PAGE = fileURLToPath(new URL("../../src/transport/dashboard/page/", import.meta.url));
const gateway = process.env.GATEWAY ?? process.env.GATEWAY_BIN;

export const WITHOUT_GATEWAY = gateway ? false : "needs GATEWAY, the compiled example";
export const WITHOUT_PAGE = gateway || process.env.BASE_URL ? false : "needs GATEWAY or BASE_URL";

// A module of the page, without a browser: Node is told that it is a module by the address it comes from.
export async function load(name) {
  return import(address(name));
}

function address(name) {
  const source = readFileSync(join(PAGE, name), "utf8").replace(/from "\.\/([\w.]+)"/g, (_, other) => `from "${address(other)}"`);
  return `data:text/javascript;base64,${Buffer.from(source).toString("base64")}`;
}

// What was started last is ended first: a page before the server that it reads.
const endings = new WeakMap();
function atEnd(t, end) {
  if (!endings.has(t)) {
    endings.set(t, []);
    t.after(async () => {
      for (const end of endings.get(t).reverse()) await end();
    });
  }
  endings.get(t).push(end);
}

// A gateway of this test's own, ended with the test.
export async function startGateway(t, flags = [], env = {}) {
  const child = spawn(gateway, ["--addr", "127.0.0.1:0", ...flags], { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "inherit"] });
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGTERM");
    await once(child, "exit");
  };
  atEnd(t, stop);
  for await (const line of createInterface(child.stdout)) {
    const url = /http:\/\/[^\s/]+/.exec(line);
    if (url) return { url: url[0], port: Number(new URL(url[0]).port), stop };
  }
  throw new Error("the gateway ended before it said where it listens");
}

// A page with traffic. A gateway of the test's own has carried all that records can hold before it is looked at: until
// the first priced request the fourth chart is another.
export async function baseUrl(t) {
  if (process.env.BASE_URL) return process.env.BASE_URL.replace(/\/(realtime\/?)?$/, "");
  const { url } = await startGateway(t, ["--traffic", "40"]);
  await eventually(async () => {
    const { capabilities } = await rest(url, "metrics?window=1m");
    assert.ok(Object.values(capabilities).every(Boolean), JSON.stringify(capabilities));
  });
  return url;
}

// Reads until it holds: the page and REST are asked at different instants, so both are asked again.
export async function eventually(check, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > end) throw error;
      await setTimeout(150);
    }
  }
}

// A wire that can be cut: what it carries is reset, what comes is refused, until it is mended.
export async function startWire(t, port) {
  const sockets = new Set();
  const wire = { target: port, broken: false };
  const server = net.createServer((client) => {
    if (wire.broken) return client.resetAndDestroy();
    const upstream = net.connect(wire.target, "127.0.0.1");
    for (const [a, b] of [[client, upstream], [upstream, client]]) {
      sockets.add(a);
      a.on("error", () => b.destroy()).on("close", () => { sockets.delete(a); b.destroy(); });
      a.pipe(b);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  wire.url = `http://127.0.0.1:${server.address().port}`;
  wire.cut = () => {
    wire.broken = true;
    for (const socket of sockets) socket.resetAndDestroy();
  };
  wire.mend = () => { wire.broken = false; };
  atEnd(t, () => {
    wire.cut();
    server.close();
  });
  return wire;
}

// A proxy that takes a prefix away, as ingresses do, and asks for nothing else.
export async function startProxy(t, port, prefix) {
  const server = http.createServer((request, response) => {
    if (!request.url.startsWith(`${prefix}/`)) return response.writeHead(404).end("somebody else's");
    const upstream = http.request({ port, host: "127.0.0.1", method: request.method, path: request.url.slice(prefix.length), headers: request.headers });
    upstream.on("response", (answer) => answer.pipe(response.writeHead(answer.statusCode, answer.headers))).on("error", () => response.destroy());
    response.on("close", () => upstream.destroy());
    request.pipe(upstream);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  atEnd(t, () => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}${prefix}`;
}

let shared;

export async function browser() {
  shared ??= launch();
  return shared;
}

// A browser of the test's own, for flags that all its pages have.
export async function launch(flags = []) {
  const require = createRequire(process.env.NODE_TOOLS ? join(process.env.NODE_TOOLS, "x.js") : import.meta.url);
  const { chromium } = require("playwright-core");
  const names = ["chromium", "chromium-browser", "google-chrome"];
  const paths = process.env.PATH.split(delimiter).flatMap((dir) => names.map((name) => join(dir, name)));
  const executablePath = process.env.CHROMIUM ?? paths.find(existsSync);
  const args = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", ...flags,
  ];
  return chromium.launch({ executablePath, args });
}

export const closeBrowser = async () => (await shared)?.close();

// Opens the page in a browser profile of its own. `errors` gathers what the console complains of; refusals and cut
// wires that a test brings about are let through by `expected`.
export async function openPage(t, url, { hash = "", options = {}, context, expected, prepare } = {}) {
  const own = context ?? (await (await browser()).newContext({ viewport: { width: 1280, height: 900 }, acceptDownloads: true, ...options }));
  if (!context) {
    atEnd(t, async () => {
      for (const page of own.pages()) await page.unrouteAll({ behavior: "ignoreErrors" });
      await own.close();
    });
  }
  const page = await own.newPage();
  const errors = [];
  page.on("console", (message) => {
    if (message.type() === "error" && !expected?.test(message.text())) errors.push(`${message.text()} ${message.location().url}`);
  });
  page.on("pageerror", (error) => errors.push(error.stack));
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
  });
  await prepare?.(page);
  await page.goto(`${url}/realtime/${hash}`);
  return Object.assign(page, { errors, own });
}

// Connected, and the first picture is drawn.
export const isLive = (page) => page.waitForFunction(() =>
  document.getElementById("pill-text").textContent === "Live" && !document.body.classList.contains("loading"));

export async function noComplaints(assert, page) {
  assert.deepEqual(await page.evaluate(() => window.violations), [], "content security policy");
  assert.deepEqual(page.errors, [], "console");
}

export async function rest(url, path, headers = {}) {
  const response = await fetch(`${url}/api/realtime/${path}`, { headers });
  return (await response.json()).data;
}

// What a download holds.
export async function saved(page, selector) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(selector)]);
  return { name: download.suggestedFilename(), text: readFileSync(await download.path(), "utf8") };
}
