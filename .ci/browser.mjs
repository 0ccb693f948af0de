// Every page in a real browser: light and dark, narrow and wide, with axe-core, its weight and first paint, and the walk
// from a recording to a comparison and a map clicked through. node browser.mjs TOOLS CHROMIUM ADDRESS [PICTURES]
import { mkdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createRequire } from "node:module";

const [tools, executablePath, address, pictures] = process.argv.slice(2);
const require = createRequire(join(resolve(tools), "node_modules/"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const base = `http://${address}`;
const examples = new URL("../examples/", import.meta.url).pathname;

const faults = [];
const fault = (text) => { faults.push(text); console.error(text); };

// What is wrong with the page that is shown.
async function look(page, name) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  if (wide) fault(`${name}: the page scrolls sideways`);
  // Evaluated by the browser's debugger, which the page's policy does not bind.
  await page.evaluate(`${axe};0`);
  const found = await page.evaluate(() => window.axe.run().then((result) => result.violations.map((one) =>
    `${one.id}: ${one.nodes.slice(0, 2).map((node) => node.html.slice(0, 120)).join(" | ")}`)));
  for (const one of found) fault(`${name}: ${one}`);
}

function watch(page, name) {
  page.on("console", (message) => {
    const expected = message.text().includes("status of 4") && ["errors", "walk"].includes(name);
    if (["error", "warning"].includes(message.type()) && !expected) fault(`${name}: console: ${message.text()}`);
  });
  page.on("pageerror", (error) => fault(`${name}: ${error.message}`));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(base) && !url.startsWith("data:")) fault(`${name}: asks for ${url}`);
  });
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

// The walk, once with script and once without.
const answers = [];
for (const javaScriptEnabled of [true, false]) {
  const context = await browser.newContext({ javaScriptEnabled, acceptDownloads: true });
  const page = await context.newPage();
  watch(page, "walk");
  await page.goto(`${base}/traces`);
  await page.setInputFiles("#file", join(examples, "traces/mixtral_like_e8k2.python.test.npz"));
  await page.click("text=Upload");
  await page.waitForURL(/\/traces\/[0-9a-f]{64}$/);
  await page.click("text=Ask about it");
  // A rule that is broken is told beside its field, and what was typed stays.
  await page.fill("#devices", "0");
  await page.click("button.main");
  await page.waitForSelector("#devices-wrong");
  await page.fill("#devices", javaScriptEnabled ? "4" : "2");
  await page.click("button.main");
  await page.waitForURL(/\/v1\/recommendations\//);
  await page.waitForSelector("h1:has-text('Run')", { timeout: 60000 });
  answers.push(page.url());
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("a[download]:has-text('json')")]);
  const plan = JSON.parse(readFileSync(await download.path(), "utf8"));
  if (!plan.layers?.length) fault("walk: the placement has no layers");
  if (javaScriptEnabled && !(await page.locator("button.copy:visible").count())) fault("walk: nothing can be copied");
  await page.goto(`${base}/`);
  const boxes = await page.locator("input[name=id]").all();
  if (boxes.length > 1) {
    await boxes[0].check();
    await boxes[1].check();
    await page.click("text=Compare the two ticked");
    await page.waitForSelector("h1:has-text('The advice')");
    answers.compare = new URL(page.url()).pathname + new URL(page.url()).search;
  }
  await context.close();
}

// Asks by JSON and follows to the end.
async function asked(question) {
  const headers = { "content-type": "application/json", prefer: "wait=60" };
  const sent = { method: "POST", headers, body: JSON.stringify(question) };
  const job = await (await fetch(`${base}/v1/recommendations`, sent)).json();
  if (job.status !== "succeeded") fault(`asked: ${JSON.stringify(job).slice(0, 300)}`);
  return job;
}

const answer = new URL(answers[0]).pathname;
const trace = (await (await fetch(`${base}/v1/traces`)).json()).items[0].id;
const example = (name) => JSON.parse(readFileSync(join(examples, "questions", `${name}.json`), "utf8"));

// A click on a map asks the question of that place; without script its form does.
const mapped = (await asked(example("paper-mixtral-a100"))).id;
for (const javaScriptEnabled of [true, false]) {
  const context = await browser.newContext({ javaScriptEnabled });
  const page = await context.newPage();
  watch(page, "map");
  await page.goto(`${base}/map?from=${mapped}&x=skewness&y=tokens_per_step`);
  if (javaScriptEnabled) {
    const plot = await page.locator(".map .frame").boundingBox();
    await page.mouse.click(plot.x + plot.width * 0.7, plot.y + plot.height * 0.4);
  } else {
    await page.selectOption("#x_at", { index: 3 });
    await page.click("text=Ask it");
  }
  await page.waitForURL(/\/v1\/recommendations\//);
  if (page.url().includes(mapped)) fault("map: the question of the place is that of the map");
  await page.waitForSelector("h1:has-text('Run')", { timeout: 60000 });
  await context.close();
}

// A deployment with a history: hot experts at first, then even loads, of a plan that nobody loads.
const watched = example("decode-qwen3-h200");
delete watched.routing;
const put = { question: watched, policy: { every: "0s", for: "1m" } };
const told = await fetch(`${base}/v1/deployments/shown`, {
  method: "PUT", headers: { "content-type": "application/json" }, body: JSON.stringify(put),
});
if (told.status !== 201) fault(`deployment: ${await told.text()}`);
for (let minute = 0; minute < 6; minute += 1) {
  const hot = (layer, expert) =>
    (minute < 4 && expert < 8 ? 3000 : 300) + ((expert * 37 + layer * 101 + minute * 7) % 89);
  const layers = Array.from({ length: 94 }, (_, layer) => Array.from({ length: 128 }, (_, expert) => hot(layer, expert)));
  const loads = await fetch(`${base}/v1/deployments/shown/loads?to=2026-01-31T12:0${minute}:00Z`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ counts: layers }),
  });
  if (loads.status !== 202) fault(`loads: ${await loads.text()}`);
  await fetch(`${base}/v1/deployments/shown`, { headers: { prefer: "wait=60" } });
}

// Heavy answers: 256 and 384 experts and copies of them.
const heavy = (await asked(example("two-nodes-h200"))).id;
const heaviest = (await asked({
  model: "kimi-k2",
  cluster: { device: "h200-sxm", devices: 64, nodes: 8, link: "nvlink4", inter_node_link: "ib400" },
  workload: { phase: "prefill", batch_size: 64, sequence_length: 4096 },
  parallelism: { attention_tensor: 1, attention_data: 64 },
  engine: { name: "sglang", all2all_backend: "deepep" },
  routing: { skewness: 6 },
})).id;
const paths = {
  answers: "/", answer, ask: "/ask", map: `/map?from=${answer.split("/").pop()}&x=skewness&y=tokens_per_step`,
  predictors: `/predictors?from=${answer.split("/").pop()}`, compare: answers.compare,
  heavy: `/v1/recommendations/${heavy}`, heaviest: `/v1/recommendations/${heaviest}`, deployments: "/deployments", deployment: "/v1/deployments/shown",
  recordings: "/traces", recording: `/traces/${trace}`, models: "/models", devices: "/devices",
  report: `/v1/traces/${trace}/report?devices=4`, errors: "/v1/recommendations/none",
};
if (pictures) mkdirSync(pictures, { recursive: true });

// What a page weighs, and how soon something of it is seen, its style and scripts once loaded: the median of five.
const MOST_BYTES = 100_000;
{
  const context = await browser.newContext();
  for (const [name, path] of Object.entries(paths)) {
    const page = await context.newPage();
    await page.goto(base + path, { waitUntil: "load" });
    const bytes = await page.evaluate(() => performance.getEntriesByType("navigation")[0].decodedBodySize);
    const paints = [];
    for (let nth = 0; nth < 5; nth += 1) {
      await page.reload({ waitUntil: "load" });
      await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length);
      paints.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime));
    }
    console.log(`${name}: ${(bytes / 1e3).toFixed(1)} KB, first paint after ${paints.sort((a, b) => a - b)[2].toFixed(0)} ms`);
    if (bytes > MOST_BYTES && name !== "map") fault(`${name}: ${bytes} bytes`);
    await page.close();
  }
  await context.close();
}
for (const width of [1280, 390]) {
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
    for (const [name, path] of Object.entries(paths)) {
      const page = await context.newPage();
      watch(page, name);
      await page.goto(base + path, { waitUntil: "load" });
      await look(page, `${name} at ${width} pixels, ${colorScheme}`);
      if (pictures) {
        await page.screenshot({ path: join(pictures, `${name}-${width}-${colorScheme}.png`), fullPage: true });
      }
      await page.close();
    }
    await context.close();
  }
}
await browser.close();
console.log(`${Object.keys(paths).length} pages, ${faults.length} faults`);
process.exit(faults.length ? 1 : 0);
