// The page that the WebSocket documentation prints, unchanged, in a real browser against a real gateway.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";

import { WITHOUT_GATEWAY, closeBrowser, launch, startGateway } from "./support.mjs";

after(closeBrowser);

const HTML = readFileSync(new URL("./websocket.html", import.meta.url), "utf8");

test("the printed page shows numbers and providers", { skip: WITHOUT_GATEWAY }, async (t) => {
  const { port } = await startGateway(t, ["--traffic", "40"]);
  // What is printed says localhost:8080: only this browser knows that the gateway of this test listens elsewhere.
  const browser = await launch([`--host-resolver-rules=MAP localhost:8080 127.0.0.1:${port}`]);
  t.after(() => browser.close());
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.stack));
  page.on("console", (message) => message.type() === "error" && !message.location().url.endsWith("/favicon.ico") && errors.push(message.text()));
  // The page of a host lies beside the socket: another origin's would be refused.
  await page.goto("http://localhost:8080/v1/models");
  await page.setContent(HTML);
  await page.waitForFunction(() => updates.length >= 2 && statuses.size >= 5, null, { timeout: 20_000 });
  const { updates: shown, providers, extensions } = await page.evaluate(() => ({
    updates,
    providers: [...statuses.values()],
    extensions: ws.extensions,
  }));
  for (const field of ["total_requests", "total_tokens", "success_rate", "avg_latency_ms", "requests_per_min", "provider_stats", "calculated_at", "time_window"]) {
    assert.ok(field in shown.at(-1), field);
  }
  assert.equal(shown.at(-1).time_window, "5m");
  assert.ok(shown.at(-1).total_requests > shown[0].total_requests);
  for (const field of ["provider_id", "provider_name", "status", "available", "latency_ms", "success_rate", "message"]) {
    assert.ok(providers.every((provider) => field in provider), field);
  }
  assert.match(extensions, /permessage-deflate/);
  assert.deepEqual(errors, []);
});
