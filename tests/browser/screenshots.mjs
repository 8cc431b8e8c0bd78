// The pictures of the README: node screenshots.mjs http://127.0.0.1:8080 DIRECTORY, after five minutes of traffic.

import { join } from "node:path";

import { browser, closeBrowser, isLive } from "./support.mjs";

const [url, directory] = process.argv.slice(2);
for (const colorScheme of ["light", "dark"]) {
  const context = await (await browser()).newContext({ viewport: { width: 1280, height: 1080 }, colorScheme });
  const page = await context.newPage();
  await page.goto(`${url}/realtime/#r=300`);
  await isLive(page);
  await page.locator("#providers-table", { hasText: "Healthy" }).waitFor();
  await page.waitForTimeout(2500);
  await page.screenshot({ path: join(directory, `${colorScheme}.png`) });
}
await closeBrowser();
