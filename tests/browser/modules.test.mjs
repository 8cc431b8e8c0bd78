// The page's modules without a browser: how numbers read, what the filter finds, what the store keeps, what files hold.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { load } from "./support.mjs";

const vectors = JSON.parse(readFileSync(new URL("format-vectors.json", import.meta.url)));

test("numbers read as agreed", async (t) => {
  const format = await load("format.js");
  for (const [name, cases] of Object.entries(vectors)) {
    await t.test(name, () => {
      for (const [value, text] of cases) assert.equal(format[name](value), text, `${name}(${value})`);
    });
  }
});

test("axis labels are short", async () => {
  const { asAxis, asDuration, asMoney, asBytes, asShort } = await load("format.js");
  const cases = [
    [asDuration, 0, "0"], [asDuration, 2000, "2 s"], [asDuration, 1500, "1.5 s"], [asDuration, 250, "250 ms"],
    [asMoney, 0, "0"], [asMoney, 2, "$2"], [asMoney, 0.5, "$0.50"], [asMoney, 0.005, "$0.005"],
    [asBytes, 65536, "64 KiB"], [asShort, 20000, "20k"], [asShort, 5000, "5,000"],
  ];
  for (const [format, value, text] of cases) assert.equal(asAxis(format)(value), text);
});

test("other currencies keep their sign", async () => {
  const { asMoney, setCurrency } = await load("format.js");
  setCurrency("EUR");
  assert.equal(asMoney(12.5), "€12.50");
  setCurrency("credits");
  assert.equal(asMoney(12.5), "credits 12.50");
});

const row = (changes) => ({
  id: "r-1", method: "POST", endpoint: "/v1/chat", status_code: 200, success: true, aborted: false, latency_ms: 120,
  provider_id: "openai", model_id: "gpt-4o", user_id: "u-1", tenant_id: null, error_message: "", timestamp_ms: 1000, ...changes,
});

test("the filter's grammar", async () => {
  const { matcher } = await load("filter.js");
  const finds = (text, changes) => matcher({ text })(row(changes));
  const cases = [
    ["", {}, true],
    ["chat", {}, true],
    ["CHAT gpt", {}, true],
    ["chat nothing", {}, false],
    ["-chat", {}, false],
    ["-nothing", {}, true],
    ["status:2xx", {}, true],
    ["status:5xx", { status_code: 503 }, true],
    ["status:429", { status_code: 429 }, true],
    ["status:42", { status_code: 429 }, true],
    ["-status:2xx", {}, false],
    ["status:error", { success: false }, true],
    ["status:aborted", { aborted: true }, true],
    ["status:aborted", {}, false],
    ["status:5xx", { status_code: null }, false],
    [">100ms", {}, true],
    [">120ms", {}, false],
    ["<0.2s", {}, true],
    [">1m", {}, false],
    ["-<20ms", {}, true],
    ["route:/v1", {}, true],
    ['route:"/v1"', {}, false],
    ['route:"/v1/chat"', {}, true],
    ['tenant:"(none)"', {}, true],
    ["model:GPT", {}, true],
    ["user:u-2", {}, false],
    ["provider:open", {}, true],
    ["method:post", {}, true],
    ["http://x", {}, false],
    ['user:"two words"', { user_id: "two words" }, true],
    ["quota", { error_message: "no quota left" }, true],
    ["-", {}, true],
    ["(", {}, false],
    ["[", {}, false],
  ];
  for (const [text, changes, found] of cases) assert.equal(finds(text, changes), found, `${text} on ${JSON.stringify(changes)}`);
});

test("the filter knows an interval, and a click is a word that can be taken back", async () => {
  const { matcher, toggleWord, exactWord, words } = await load("filter.js");
  const within = matcher({ text: "", interval: [1, 2] });
  assert.deepEqual([999, 1000, 1999, 2000].map((at) => within(row({ timestamp_ms: at }))), [false, true, true, false]);
  const word = exactWord("route", "/v1/chat");
  assert.equal(toggleWord("status:2xx", word), 'status:2xx route:"/v1/chat"');
  assert.equal(toggleWord('status:2xx route:"/v1/chat"', word), "status:2xx");
  assert.deepEqual(words('a "b c" route:"d e" -f'), ["a", '"b c"', 'route:"d e"', "-f"]);
});

test("the store keeps the newest rows once", async () => {
  const { Store, KEEP, epochOf } = await load("store.js");
  const store = new Store();
  const make = (n) => row({ id: `r-${n}`, timestamp_ms: n });
  assert.equal(store.add([make(1), make(2)]), 2);
  assert.equal(store.add([make(2), make(3), make(1)]), 1);
  assert.deepEqual(store.rows.map(({ id }) => id), ["r-3", "r-2", "r-1"]);
  const before = store.rows;
  store.add(Array.from({ length: 2 * KEEP }, (_, n) => make(10 + n)));
  assert.equal(store.rows.length, KEEP);
  assert.equal(store.keys.size, KEEP);
  assert.equal(store.rows[0].timestamp_ms, 2 * KEEP + 9);
  assert.equal(before.length, 3, "an older view is not changed");
  // A host's request ids may repeat: both rows count.
  assert.equal(store.add([row({ id: "same", timestamp_ms: 1e6 }), row({ id: "same", timestamp_ms: 1e6 + 1 })]), 2);
  assert.deepEqual(["17-3", "x", "", null, "17-3-4"].map(epochOf), ["17", undefined, undefined, undefined, undefined]);
});

test("files can be read by spreadsheets and are no formulas", async () => {
  const { toCsv, toJson } = await load("export.js");
  const rows = [row({ timestamp_ms: 0, user_id: "=1+1", error_message: 'said "no",\nthen left', estimated_cost: -1, status_code: null })];
  const [head, ...lines] = toCsv(rows).split("\r\n");
  assert.match(head, /^timestamp,id,method,endpoint,status_code,/);
  assert.match(lines[0], /^1970-01-01T00:00:00\.000Z,r-1,POST,\/v1\/chat,,true,/);
  assert.match(lines.join("\r\n"), /,'=1\+1,/);
  assert.match(lines.join("\r\n"), /,"said ""no"",\nthen left"\r\n$/);
  assert.match(lines[0], /,-1,/, "a number is a number");
  assert.deepEqual(JSON.parse(toJson(rows)), rows);
});
