// The page against a real gateway, in a real browser.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import {
  WITHOUT_GATEWAY, WITHOUT_PAGE, baseUrl, closeBrowser, eventually, isLive, noComplaints, openPage, rest, saved, startGateway, startProxy,
  startWire,
} from "./support.mjs";

after(closeBrowser);

const text = (page, selector) => page.locator(selector).innerText();
const rows = (page, table = "feed-table") => page.locator(`#${table} tbody tr:has(.pick)`);
const plain = (number) => Number(number.replaceAll(",", ""));
const fourth = (page) => page.locator("#chart-4 h2").innerText();

// Lets the page see other metrics than the server has. Of a range that is not the stream's, they come by REST alone.
const changeMetrics = (change) => (page) => page.route(/\/api\/realtime\/metrics/, async (route) => {
  const response = await route.fetch();
  const json = await response.json();
  change(json.data);
  await route.fulfill({ response, json });
});

test("opens alive: numbers, charts and rows are there, and nothing complains", { skip: WITHOUT_PAGE }, async (t) => {
  const url = await baseUrl(t);
  const page = await openPage(t, url);
  await isLive(page);
  await eventually(async () => assert.ok(plain(await text(page, "#kpis article:first-child b")) > 0));
  assert.ok(await rows(page).count() > 0);
  for (const title of ["Requests per second", "Latency", "Tokens per second", "Cost per minute"]) {
    assert.equal(await page.getByRole("img", { name: title, exact: true }).count(), 1, title);
  }
  await eventually(async () => assert.match(await text(page, "#providers-table"), /● Healthy/));
  assert.match(await text(page, "#footer"), /recorded.*dropped.*buffer.*series.*viewer.*up .*instance/s);
  // The first paint of a warm browser: the cold one is the browser's own.
  await page.reload();
  await isLive(page);
  const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime);
  t.diagnostic(`first contentful paint after ${paint.toFixed(0)} ms`);
  await noComplaints(assert, page);
});

test("live numbers equal REST's", { skip: WITHOUT_GATEWAY }, async (t) => {
  const { url } = await startGateway(t, ["--traffic", "0"]);
  for (let n = 0; n < 40; n += 1) await fetch(`${url}/v1/models`);
  for (let n = 0; n < 3; n += 1) await fetch(`${url}/v1/nothing`);
  const page = await openPage(t, url, { hash: "#r=300" });
  await isLive(page);
  for (let n = 0; n < 20; n += 1) await fetch(`${url}/v1/models`);
  await eventually(async () => {
    const metrics = await rest(url, "metrics?window=5m");
    assert.equal(metrics.total_requests, 63);
    assert.match(await text(page, "#kpis article:nth-child(1) .sub"), /^63\sin\s5\smin/);
    assert.match(await text(page, "#kpis article:nth-child(2) .sub"), /^0\s×\s5xx · 3\s×\s4xx · 0\saborted/);
    assert.match(await text(page, "#footer"), /63 recorded/);
  });
  // Another range than the stream's lives as well.
  await page.keyboard.press("3");
  await fetch(`${url}/v1/models`);
  await eventually(async () => assert.match(await text(page, "#kpis article:nth-child(1) .sub"), /^64\sin\s15\smin/));
  await page.keyboard.press("2");
  const { rows: breakdown, totals } = await rest(url, "breakdown?by=route&range=300");
  await eventually(async () => {
    const shown = await page.locator("#breakdown-table tbody tr").evaluateAll((lines) =>
      lines.map((line) => [line.children[0].innerText, Number(line.children[1].innerText)]));
    assert.deepEqual(Object.fromEntries(shown), Object.fromEntries(breakdown.map((row) => [row.key, row.total_requests])));
    assert.equal(Number(await text(page, "#breakdown-table tfoot td:nth-child(2)")), totals.total_requests);
  });
  await eventually(async () => assert.equal(await rows(page).count(), 64));
  await noComplaints(assert, page);
});

test("a host without models sees no dash: sizes and status codes instead", { skip: WITHOUT_GATEWAY }, async (t) => {
  const { url } = await startGateway(t, ["--traffic", "0"]);
  for (let n = 0; n < 5; n += 1) await fetch(`${url}/v1/models`);
  const page = await openPage(t, url, {
    hash: "#r=900",
    prepare: changeMetrics((metrics) => { metrics.capabilities = { tokens: false, cost: false, providers: false, users: false }; }),
  });
  await isLive(page);
  assert.deepEqual(await page.locator("#kpis h2").allInnerTexts(), ["Throughput", "Server errors", "Latency p95", "In flight", "Response size", "Client errors"]);
  assert.equal(await text(page, "#chart-3 h2"), "Response bytes per second");
  assert.equal(await fourth(page), "Status codes");
  await eventually(async () => assert.match(await text(page, "#chart-4"), /200\s+5 · 100%/));
  assert.deepEqual(await page.getByRole("tab").allInnerTexts(), ["Routes", "Errors", "Slowest"]);
  const heads = await page.locator("#feed-table th[scope=col]").allInnerTexts();
  assert.deepEqual(heads, ["Time", "Request", "Status", "Latency", "TTFB", "Size"]);
  await noComplaints(assert, page);
});

test("no request yet: says so, and how to send one; the first one wakes the page", { skip: WITHOUT_GATEWAY }, async (t) => {
  const { url } = await startGateway(t, ["--traffic", "0"]);
  const page = await openPage(t, url);
  await isLive(page);
  assert.match(await text(page, "#empty"), new RegExp(`Waiting for the first request\\s+curl -i ${url}/`));
  assert.equal(await text(page, "#kpis article:first-child .big"), "0req/s");
  assert.equal(await text(page, "#kpis article:nth-child(2) b"), "–");
  assert.ok(!(await page.locator("#panels").isVisible()));
  await fetch(`${url}/v1/models`);
  await page.locator("#empty").waitFor({ state: "hidden" });
  await eventually(async () => assert.equal(await rows(page).count(), 1));
  await noComplaints(assert, page);
});

test("ranges, tabs and filters stand in the address", { skip: WITHOUT_PAGE }, async (t) => {
  const url = await baseUrl(t);
  const page = await openPage(t, url, { hash: "#r=900&t=errors&q=status:4xx" });
  await isLive(page);
  assert.equal(await page.getAttribute("#ranges [value='900']", "aria-pressed"), "true");
  assert.equal(await page.getAttribute("#tab-errors", "aria-selected"), "true");
  assert.equal(await page.inputValue("#filter"), "status:4xx");
  await eventually(async () => assert.ok(await rows(page, "errors-table").count() > 0));
  for (const [button, label] of [["1m", "1 min"], ["1h", "1 h"], ["5m", "5 min"]]) {
    await page.getByRole("button", { name: button, exact: true }).click();
    await eventually(async () => assert.match(await text(page, "#kpis article:nth-child(4) .sub"), new RegExp(`in\\s${label.replace(" ", "\\s")}$`)));
    assert.equal(await text(page, "#providers .window"), `last ${label}`);
  }
  assert.match(page.url(), /#r=300&t=errors&q=status%3A4xx$/);
  await page.fill("#filter", "");
  await page.getByRole("tab", { name: "Slowest" }).click();
  await eventually(async () => {
    const first = await text(page, "#slow-table tbody tr:first-child td.c-latency:not(.opt)");
    assert.match(first, / s$|ms$/);
  });
  for (const [tab, head] of [["Models", "Model"], ["Users", "User"], ["Routes", "Route"]]) {
    await page.getByRole("tab", { name: tab }).click();
    await eventually(async () => assert.match(await text(page, "#breakdown-table thead"), new RegExp(`^${head}`)));
  }
  await noComplaints(assert, page);
});

test("the filter narrows what is seen, a click on a row sets it, Escape clears it", { skip: WITHOUT_PAGE }, async (t) => {
  const url = await baseUrl(t);
  const page = await openPage(t, url);
  await isLive(page);
  await eventually(async () => assert.ok(await rows(page).count() > 20));
  await page.fill("#filter", "status:2xx -route:chat");
  await eventually(async () => {
    const shown = await page.locator("#feed-table tbody .c-request span").allInnerTexts();
    assert.ok(shown.length > 0 && shown.every((route) => !route.includes("chat")), shown.join());
  });
  assert.match(await text(page, "#matches"), /^\d+ \/ \d+$/);
  await page.keyboard.press("Escape");
  assert.equal(await page.inputValue("#filter"), "");
  const route = page.locator("#breakdown-table .pick", { hasText: "/v1/models" }).first();
  const name = await route.innerText();
  await route.click();
  assert.equal(await page.inputValue("#filter"), `route:"${name}"`);
  assert.equal(await route.getAttribute("aria-pressed"), "true");
  await eventually(async () => {
    const shown = await page.locator("#feed-table tbody .c-request span").allInnerTexts();
    assert.ok(shown.length > 0 && shown.every((other) => other === name));
  });
  await page.locator("#chips button").first().click();
  assert.equal(await page.inputValue("#filter"), "");
  assert.ok(!(await page.locator("#chips").isVisible()));
  await noComplaints(assert, page);
});

test("a drag on the first chart filters by time, and all charts share the cursor", { skip: WITHOUT_PAGE }, async (t) => {
  const url = await baseUrl(t);
  const page = await openPage(t, url, { hash: "#r=60" });
  await isLive(page);
  const box = await page.locator("#chart-1 .plot").boundingBox();
  await page.mouse.move(box.x + box.width - 40, box.y + 80);
  const times = await page.locator(".head .tools .dim").allInnerTexts();
  const shown = times.filter((time) => /^\d\d:\d\d:\d\d$/.test(time));
  assert.equal(shown.length, 4, times.join());
  assert.equal(new Set(shown).size, 1);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width - 150, box.y + 90, { steps: 4 });
  await page.mouse.up();
  assert.match(await text(page, "#chips"), /\d\d:\d\d:\d\d – \d\d:\d\d:\d\d ×/);
  assert.match(page.url(), /at=\d+-\d+/);
  const [from, to] = /at=(\d+)-(\d+)/.exec(page.url()).slice(1).map(Number);
  const { text: file } = await saved(page, "#json");
  for (const row of JSON.parse(file)) assert.ok(row.timestamp_ms >= from * 1000 && row.timestamp_ms < to * 1000);
  await noComplaints(assert, page);
});

test("a row opens to all that is known of it", { skip: WITHOUT_PAGE }, async (t) => {
  const url = await baseUrl(t);
  const page = await openPage(t, url);
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await isLive(page);
  await eventually(async () => assert.ok(await rows(page).count() > 3));
  const button = rows(page).nth(2).locator(".pick");
  await button.focus();
  await page.keyboard.press("Enter");
  const facts = await text(page, "#feed-table .facts");
  assert.match(facts, /Request\n.+\nFinished\n\d{4}-\d\d-\d\dT[\d:.]+Z/);
  await page.getByRole("button", { name: "Copy as JSON" }).click();
  await page.getByRole("button", { name: "Copied" }).waitFor();
  const copied = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
  assert.ok(facts.includes(copied.id) && "latency_ms" in copied);
  // While it is open the list stands still, and counts what waits.
  await page.locator("#more").waitFor({ state: "visible" });
  await page.locator("#more").click();
  assert.equal(await page.locator("#feed-table .facts").count(), 0);
  await noComplaints(assert, page);
});

test("files hold what is seen", { skip: WITHOUT_PAGE }, async (t) => {
  const url = await baseUrl(t);
  const page = await openPage(t, url);
  await isLive(page);
  await page.fill("#filter", "status:200 route:models");
  await eventually(async () => assert.ok(await rows(page).count() > 2));
  await page.click("#pause");
  const found = Number(/^\d+/.exec(await text(page, "#matches"))[0]);
  const { name, text: json } = await saved(page, "#json");
  assert.match(name, /^requests-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.json$/);
  const list = JSON.parse(json);
  assert.equal(list.length, found);
  assert.ok(list.every((row) => row.status_code === 200 && row.endpoint.includes("models")));
  const { name: other, text: csv } = await saved(page, "#csv");
  assert.match(other, /\.csv$/);
  const lines = csv.trimEnd().split("\r\n");
  assert.equal(lines.length, found + 1);
  assert.ok(lines[1].startsWith(`${new Date(list[0].timestamp_ms).toISOString()},${list[0].id},`));
  await noComplaints(assert, page);
});

test("pause freezes everything, counts what comes, and goes on from now", { skip: WITHOUT_PAGE }, async (t) => {
  const url = await baseUrl(t);
  const page = await openPage(t, url);
  await isLive(page);
  await page.locator("body").press("Space");
  assert.equal(await text(page, "#pill-text"), "Paused");
  const frozen = await page.evaluate(() => [document.getElementById("as-of").innerText, document.getElementById("feed-table").innerText]);
  await page.locator("#pause", { hasText: /Resume \(\d+ new\)/ }).waitFor();
  await pause(2500);
  assert.deepEqual(await page.evaluate(() => [document.getElementById("as-of").innerText, document.getElementById("feed-table").innerText]), frozen);
  await page.locator("body").press("Space");
  assert.equal(await text(page, "#pill-text"), "Live");
  await eventually(async () => assert.notEqual(await text(page, "#as-of"), frozen[0]));
  await noComplaints(assert, page);
});

test("the theme is chosen, kept and applied", { skip: WITHOUT_PAGE }, async (t) => {
  const url = await baseUrl(t);
  const page = await openPage(t, url, { options: { colorScheme: "light", viewport: { width: 1280, height: 900 } } });
  await isLive(page);
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.getByRole("button", { name: "Theme: system" }).click();
  assert.equal(await ground(), light);
  await page.getByRole("button", { name: "Theme: light" }).click();
  assert.notEqual(await ground(), light);
  await page.reload();
  await isLive(page);
  assert.equal(await page.getAttribute("#theme", "aria-label"), "Theme: dark");
  await noComplaints(assert, page);
});

test("a keyboard is enough", { skip: WITHOUT_PAGE }, async (t) => {
  const url = await baseUrl(t);
  const page = await openPage(t, url);
  await isLive(page);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.innerText), "Skip to content");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("4");
  assert.equal(await page.getAttribute("#ranges [value='3600']", "aria-pressed"), "true");
  await page.keyboard.press("/");
  await page.keyboard.type("2xx 4");
  assert.equal(await page.inputValue("#filter"), "2xx 4", "keys in a field are text");
  await page.keyboard.press("Escape");
  await page.keyboard.press("?");
  assert.ok(await page.getByRole("dialog", { name: "Keyboard shortcuts" }).isVisible());
  await page.getByRole("checkbox", { name: "Single-key shortcuts" }).uncheck();
  await page.keyboard.press("Escape");
  await page.keyboard.press("2");
  assert.equal(await page.getAttribute("#ranges [value='3600']", "aria-pressed"), "true", "shortcuts are off");
  await page.focus("#tab-routes");
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.getAttribute("#tab-models", "aria-selected"), "true");
  await page.keyboard.press("End");
  assert.equal(await page.evaluate(() => document.activeElement.id), "tab-slow");
  await page.focus("#chart-2 .plot");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("Enter");
  assert.match(await page.locator("#announce").textContent(), /^Latency at \d\d:\d\d:\d\d: p50 /);
  await page.focus("#chart-1 .plot");
  await page.keyboard.press("Shift+Enter");
  assert.match(page.url(), /at=\d+-\d+/);
  await page.focus("#chart-1 .quiet");
  await page.keyboard.press("Enter");
  assert.ok(await page.getByRole("region", { name: "Requests per second, as a table" }).isVisible());
  // A walk through all stops: each can be seen, and has a name.
  await page.keyboard.press("Escape");
  await page.click("#tab-routes");
  await page.focus(".skip");
  const stops = new Set();
  for (let n = 0; n < 200 && !stops.has("filter"); n += 1) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate(() => {
      const node = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(node);
      const label = node.getAttribute("aria-label") ?? node.innerText ?? "";
      const by = document.getElementById(node.getAttribute("aria-labelledby"))?.innerText ?? "";
      return { tag: node.tagName, id: node.id, name: label || by, ring: outlineStyle !== "none" && outlineWidth !== "0px" };
    });
    assert.ok(stop.name, `a name for ${JSON.stringify(stop)}`);
    assert.ok(stop.ring, `a focus ring for ${JSON.stringify(stop)}`);
    stops.add(stop.id || stop.name);
  }
  for (const id of ["pause", "theme", "help-open", "panel", "filter"]) assert.ok(stops.has(id), `${id} in ${[...stops]}`);
  await noComplaints(assert, page);
});

test("roles and names are there for those who do not see the page", { skip: WITHOUT_PAGE }, async (t) => {
  const url = await baseUrl(t);
  const page = await openPage(t, url);
  await isLive(page);
  await eventually(async () => assert.ok(await rows(page).count() > 3));
  const session = await page.context().newCDPSession(page);
  const { nodes } = await session.send("Accessibility.getFullAXTree");
  const roles = new Map();
  for (const { ignored, role, name } of nodes) {
    if (ignored || !role) continue;
    roles.set(role.value, (roles.get(role.value) ?? 0) + 1);
    const needsName = ["button", "link", "tab", "textbox", "searchbox", "checkbox", "img", "region", "table", "tabpanel", "dialog", "tablist"];
    if (needsName.includes(role.value)) assert.ok(name?.value, `${role.value} without a name`);
  }
  for (const role of ["banner", "main", "contentinfo", "status", "tablist", "tabpanel", "columnheader", "rowheader"]) {
    assert.ok(roles.get(role) > 0, `${role} in ${[...roles.keys()]}`);
  }
  assert.equal(await page.locator("h1").count(), 1);
  assert.equal(await page.locator("[aria-live]").count(), 1, "numbers are no live regions");
  await noComplaints(assert, page);
});

test("text can be told from its ground, targets can be hit, nothing scrolls sideways", { skip: WITHOUT_PAGE }, async (t) => {
  const url = await baseUrl(t);
  for (const width of [1280, 390]) {
    for (const colorScheme of ["light", "dark"]) {
      const page = await openPage(t, url, { options: { colorScheme, viewport: { width, height: 844 } } });
      await isLive(page);
      await eventually(async () => assert.ok(await rows(page).count() > 3));
      await rows(page).nth(1).locator(".pick").click();
      const found = await page.evaluate(measure);
      assert.equal(found.wide, 0, `sideways scroll at ${width}`);
      assert.ok(found.texts > 60, `${found.texts} texts`);
      assert.deepEqual(found.faint, [], `${colorScheme} at ${width}`);
      assert.deepEqual(found.small, [], `targets at ${width}`);
      await noComplaints(assert, page);
      await page.close();
    }
  }
});

// In the page: WCAG 1.4.3 over all texts that can be seen, 2.5.8 over all targets.
function measure() {
  const parse = (colour) => {
    const numbers = colour.match(/[\d.]+/g).map(Number);
    const scale = colour.startsWith("color(") ? 1 : 255;
    return [...numbers.slice(0, 3).map((n) => n / scale), numbers[3] ?? 1];
  };
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [1, 1, 1, 1];
  };
  const faint = new Set();
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest(".sr, .skip, dialog, script")) continue;
    const style = getComputedStyle(node);
    const colour = parse(node instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [luminance(colour), luminance(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    texts += 1;
    if (ratio < 4.5) faint.add(`${walker.currentNode.data.trim().slice(0, 20)} ${ratio.toFixed(2)}`);
  }
  const small = [...document.querySelectorAll("button, a, input")]
    .filter((node) => node.checkVisibility() && !node.closest(".skip, dialog, p, footer"))
    .map((node) => [node, node.getBoundingClientRect()])
    .filter(([, { width, height }]) => width < 24 || height < 24)
    .map(([node, { width, height }]) => `${node.id || node.innerText} ${width.toFixed(0)}x${height.toFixed(0)}`);
  const root = document.documentElement;
  return { faint: [...faint], small, texts, wide: Math.max(0, root.scrollWidth - root.clientWidth) };
}

test("texts are texts, whatever they hold", { skip: WITHOUT_GATEWAY }, async (t) => {
  const payload = `<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>"'{{title}}`;
  const { url } = await startGateway(t, ["--traffic", "0"], { REALTIME_TITLE: "<b>T</b>" });
  const ask = () => fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "openai-organization": payload, "x-request-id": payload },
    body: JSON.stringify({ model: payload, user: payload, messages: [] }),
  });
  await ask();
  // What the gateway would not let through comes by a changed answer: every text of every read.
  const poison = (value) => Array.isArray(value) ? value.map(poison)
    : value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, ["position", "currency"].includes(key) ? inner : poison(inner)]))
    : typeof value === "string" ? payload : value;
  const page = await openPage(t, url, {
    hash: "#r=900",
    prepare: (page) => page.route(/\/api\/realtime\//, async (route) => {
      const response = await route.fetch();
      const json = await response.json();
      await route.fulfill({ response, json: { ...json, data: poison(json.data) } });
    }),
  });
  await isLive(page);
  await ask();
  await eventually(async () => assert.ok(await rows(page).count() > 1));
  for (const tab of ["Users", "Errors", "Slowest", "Routes"]) {
    const button = page.getByRole("tab", { name: tab });
    if (await button.isVisible()) await button.click();
    await pause(300);
  }
  for (const line of await rows(page).all()) {
    await line.locator(".pick").click();
    assert.match(await text(page, "#feed-table .facts"), /<img src=x onerror=/);
  }
  assert.equal(await page.evaluate(() => window.hurt), undefined);
  assert.equal(await page.locator("main img[src=x], main script, h1 b").count(), 0);
  assert.match(await text(page, "#footer"), /<script>/);
  await noComplaints(assert, page);
});

test("a cut wire: a banner after three seconds, and on resuming nothing is missing", { skip: WITHOUT_GATEWAY }, async (t) => {
  const { port, url } = await startGateway(t, ["--traffic", "20"]);
  const wire = await startWire(t, port);
  const page = await openPage(t, wire.url, { hash: "#r=300", expected: /ERR_CONNECTION|ERR_EMPTY_RESPONSE|ERR_NETWORK|ERR_INCOMPLETE/ });
  await isLive(page);
  await eventually(async () => assert.ok(await rows(page).count() > 10));
  wire.cut();
  await page.locator("#pill", { hasText: "Reconnecting…" }).waitFor();
  assert.ok(!(await page.locator("#banner").isVisible()), "no banner for a blink");
  await page.locator("#banner").waitFor({ state: "visible" });
  assert.match(await text(page, "#banner"), /^Connection lost. Showing the last known values from \d\d:\d\d:\d\d. Retrying/);
  assert.match(await page.title(), /^⚠ /);
  await pause(2000);
  wire.mend();
  // The page may just have come back by itself.
  await page.evaluate(() => document.getElementById("retry").click());
  await isLive(page);
  assert.ok(!(await page.locator("#banner").isVisible()));
  await pause(1500);
  await page.click("#pause");
  const { text: file } = await saved(page, "#json");
  const shown = JSON.parse(file);
  const ids = new Set(shown.map((row) => row.id));
  assert.equal(ids.size, shown.length, "no row twice");
  const [newest, oldest] = [shown[0].timestamp_ms, shown.at(-1).timestamp_ms];
  const { requests } = await rest(url, "requests?limit=500");
  const missing = requests.filter((row) => row.timestamp_ms > oldest && row.timestamp_ms < newest && !ids.has(row.id));
  assert.deepEqual(missing, []);
  await noComplaints(assert, page);
});

test("a restarted server: the page says so and begins again", { skip: WITHOUT_GATEWAY }, async (t) => {
  const first = await startGateway(t, ["--traffic", "20"]);
  const wire = await startWire(t, first.port);
  const page = await openPage(t, wire.url, { hash: "#r=300", expected: /ERR_|Failed to load resource/ });
  await isLive(page);
  await eventually(async () => assert.ok(await rows(page).count() > 10));
  wire.cut();
  await first.stop();
  const second = await startGateway(t, ["--traffic", "20"]);
  wire.target = second.port;
  wire.mend();
  await page.locator("#note", { hasText: /^Server restarted (now|\d+s ago)\. All counters began again\.$/ }).waitFor();
  await isLive(page);
  await eventually(async () => assert.match(await text(page, "#chart-1 .plot"), /restart/));
  const { recorded } = await rest(second.url, "metrics?window=5m");
  await eventually(async () => assert.ok(Math.abs(plain(/([\d,]+) recorded/.exec(await text(page, "#footer"))[1]) - recorded) < 400));
  const { text: file } = await saved(page, "#json");
  const known = new Set((await rest(second.url, "requests?limit=500")).requests.map((row) => row.id));
  assert.ok(JSON.parse(file).some((row) => known.has(row.id)));
  await noComplaints(assert, page);
});

test("a token is asked for once, kept for the tab, and buys tickets for the stream", { skip: WITHOUT_GATEWAY }, async (t) => {
  const { url } = await startGateway(t, ["--traffic", "20", "--token", "viewer-s3cret-token"]);
  const asked = [];
  const page = await openPage(t, url, { expected: /401/, prepare: (page) => page.on("request", (request) => asked.push(request.url())) });
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(await text(page, "#pill-text"), "Not signed in");
  assert.ok(!(await page.locator("#content").isVisible()));
  await page.fill("#token", "wrong");
  await page.keyboard.press("Enter");
  await page.locator("#gate-text", { hasText: "This token was not accepted." }).waitFor();
  await page.fill("#token", "viewer-s3cret-token");
  await page.keyboard.press("Enter");
  await isLive(page);
  await eventually(async () => assert.ok(await rows(page).count() > 0));
  await page.reload();
  await isLive(page);
  assert.ok(asked.every((address) => !address.includes("s3cret")), "a token in an address ends up in logs");
  assert.ok(!page.url().includes("s3cret"));
  await noComplaints(assert, page);
});

test("who may not look is told why, and nothing is tried for ever", { skip: WITHOUT_GATEWAY }, async (t) => {
  const { url } = await startGateway(t, ["--traffic", "20"]);
  const asked = [];
  const page = await openPage(t, url, {
    expected: /403/, options: { extraHTTPHeaders: { "x-forwarded-for": "203.0.113.7" } },
    prepare: (page) => page.on("request", (request) => asked.push(request.url())),
  });
  await page.getByRole("heading", { name: "You are not allowed to view this dashboard" }).waitFor();
  assert.match(await text(page, "#gate-text"), /Access::/);
  assert.equal(await text(page, "#pill-text"), "Not allowed");
  const before = asked.length;
  await pause(3000);
  assert.equal(asked.length, before);
  await page.context().setExtraHTTPHeaders({});
  await page.getByRole("button", { name: "Try again" }).click();
  await isLive(page);
  await noComplaints(assert, page);
});

test("a proxy that answers with its own page is named", { skip: WITHOUT_PAGE }, async (t) => {
  const url = await baseUrl(t);
  const page = await openPage(t, url, {
    prepare: (page) => page.route(/\/api\/realtime\//, (route) => route.fulfill({ status: 200, contentType: "text/html", body: "<h1>hello</h1>" })),
  });
  await page.locator("#banner-text", { hasText: /The API is not at the expected place: .*text\/html\. Is a proxy rewriting the path\?/ }).waitFor();
  await noComplaints(assert, page);
});

test("behind a proxy's prefix everything is found", { skip: WITHOUT_GATEWAY }, async (t) => {
  const { port } = await startGateway(t, ["--traffic", "20"]);
  const url = await startProxy(t, port, "/ops/gateway");
  const page = await openPage(t, url);
  await isLive(page);
  await eventually(async () => assert.ok(await rows(page).count() > 0));
  await page.goto(`${url}/realtime?x=1#r=60`);
  await isLive(page);
  assert.match(page.url(), /\/ops\/gateway\/realtime\/\?x=1#r=60/);
  await noComplaints(assert, page);
});

test("what was lost is told, with the setting that would have helped", { skip: WITHOUT_PAGE }, async (t) => {
  const url = await baseUrl(t);
  const page = await openPage(t, url, {
    hash: "#r=900",
    prepare: changeMetrics((metrics) => {
      metrics.dropped = 1204;
      metrics.series.users.overflow = 38;
    }),
  });
  await page.locator("#footer .bad", { hasText: "Dropped 1,204 rows – raise feed_capacity" }).waitFor();
  await page.locator("#footer .warn", { hasText: "38 users in “other” – raise max_users" }).waitFor();
  await noComplaints(assert, page);
});

test("two tabs share one stream", { skip: WITHOUT_GATEWAY }, async (t) => {
  const { url } = await startGateway(t, ["--traffic", "20"]);
  const one = await openPage(t, url);
  await isLive(one);
  const two = await openPage(t, url, { context: one.own });
  await isLive(two);
  const newest = await rows(two).first().innerText();
  await eventually(async () => assert.notEqual(await rows(two).first().innerText(), newest));
  assert.equal((await rest(url, "hub/stats")).total_clients, 1);
  await one.close();
  const then = await rows(two).first().innerText();
  await eventually(async () => assert.notEqual(await rows(two).first().innerText(), then));
  await two.close();
  await eventually(async () => assert.equal((await rest(url, "hub/stats")).total_clients, 0));
  assert.deepEqual([...one.errors, ...two.errors], []);
});

test("a compressed stream is as live as any", { skip: WITHOUT_GATEWAY }, async (t) => {
  const { url } = await startGateway(t, ["--traffic", "20"]);
  if ((await rest(url, "hub/stats")).compression === null) return t.skip("the gateway was built without the feature compression");
  const page = await openPage(t, url);
  await isLive(page);
  for (let n = 0; n < 5; n += 1) {
    const newest = await rows(page).first().innerText();
    await eventually(async () => assert.notEqual(await rows(page).first().innerText(), newest));
  }
  const { compression, total_clients } = await rest(url, "hub/stats");
  assert.equal(total_clients, 1);
  assert.ok(compression.sent_compressed_bytes > 0, "the browser took what was compressed");
  assert.ok(compression.sent_compressed_bytes * 2 < compression.sent_plain_bytes, JSON.stringify(compression));
  const script = await page.evaluate(() => performance.getEntriesByType("resource").find((entry) => entry.name.includes("/assets/app.")));
  assert.ok(script.encodedBodySize * 2 < script.decodedBodySize, "the script came compressed");
  await noComplaints(assert, page);
});

test("without a SharedWorker the page has a stream of its own", { skip: WITHOUT_GATEWAY }, async (t) => {
  const { url } = await startGateway(t, ["--traffic", "20"]);
  const page = await openPage(t, url, { prepare: (page) => page.addInitScript(() => { delete window.SharedWorker; }) });
  await isLive(page);
  const newest = await rows(page).first().innerText();
  await eventually(async () => assert.notEqual(await rows(page).first().innerText(), newest));
  await noComplaints(assert, page);
});

test("a hidden tab draws nothing and reads everything anew when it is looked at", { skip: WITHOUT_PAGE }, async (t) => {
  const url = await baseUrl(t);
  const page = await openPage(t, url);
  await isLive(page);
  const hide = (hidden) => page.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await eventually(async () => assert.ok(await rows(page).count() > 3));
  await hide(true);
  await pause(500);
  const before = await text(page, "#feed-table");
  await pause(2500);
  assert.equal(await text(page, "#feed-table"), before);
  await hide(false);
  await eventually(async () => assert.notEqual(await text(page, "#feed-table"), before));
  await noComplaints(assert, page);
});

test("a thousand requests a second: what the page's scripts take", { skip: WITHOUT_GATEWAY }, async (t) => {
  const { url } = await startGateway(t, ["--traffic", "1000"]);
  const page = await openPage(t, url, { hash: "#r=300" });
  await isLive(page);
  await pause(3000);
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  const read = async () => Object.fromEntries((await session.send("Performance.getMetrics")).metrics.map(({ name, value }) => [name, value]));
  const seconds = 8;
  const before = await read();
  await pause(seconds * 1000);
  const after = await read();
  const spent = (name) => ((after[name] - before[name]) * 1000) / seconds;
  t.diagnostic(`script ${spent("ScriptDuration").toFixed(1)} ms/s, layout ${spent("LayoutDuration").toFixed(1)}, style ${spent("RecalcStyleDuration").toFixed(1)}, nodes ${after.Nodes}, heap ${(after.JSHeapUsedSize / 1048576).toFixed(1)} MiB`);
  // Machines differ: this only catches a page that does the work of hundreds.
  assert.ok(spent("ScriptDuration") < 400);
  assert.ok(after.Nodes < 12_000, "rows are used again, not made anew");
  await noComplaints(assert, page);
});
