/**
 * How fast the Explorer is in Chromium: `npm run bench [OPS …]`.
 *
 * Synthetic transformers; the kernel never answers, as when a cell is running. Each figure is the main thread's own
 * processor time for one input event (script, style, layout, painting; without waiting for other programs), which is what
 * has to fit into a frame, and beside it the time on the wall from the event until behind the next frame. Long tasks are
 * those that Chromium reports: over 50 ms by the clock, so other programs count.
 */

import { accessSync, constants } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright";
import { build } from "vite";

const HERE = dirname(fileURLToPath(import.meta.url));
const SIZES = [100, 1_000, 10_000, 100_000];
const STEPS = 60;
/** After the first paint nothing is to do any more. */
const REST_MS = 500;
/** A frame at 60 Hz. */
const FRAME_MS = 1000 / 60;

async function bundle() {
  const made = await build({
    root: dirname(HERE),
    configFile: false,
    logLevel: "error",
    define: { "process.env.NODE_ENV": '"production"' },
    build: {
      write: false,
      target: "es2022",
      lib: { entry: join(HERE, "page.ts"), formats: ["iife"], name: "page" },
    },
  });
  return [made].flat()[0].output[0].code;
}

function browserPath() {
  const named = process.env.CHROMIUM_PATH ?? process.env.CHROMIUM;
  if (named) return named;
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    try {
      accessSync(join(folder, "chromium"), constants.X_OK);
      return join(folder, "chromium");
    } catch {
      // not here
    }
  }
  return undefined;
}

const at = (values, part) =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))];

/** What the main thread spent between two looks at its clock, in ms. */
function spent(before, after, wall) {
  const of = (...names) => names.reduce((sum, name) => sum + (after[name] - before[name]) * 1000, 0);
  return {
    cpu: of("TaskDuration"),
    script: of("ScriptDuration"),
    layout: of("LayoutDuration", "RecalcStyleDuration"),
    wall,
  };
}

/** A page whose main thread can be timed. */
class Bench {
  constructor(page, session) {
    this.page = page;
    this.session = session;
  }

  static async start(browser, code) {
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    await page.setContent("<!doctype html><body style='margin:0'></body>");
    await page.addScriptTag({ content: code });
    const session = await page.context().newCDPSession(page);
    await session.send("Performance.enable", { timeDomain: "threadTicks" });
    return new Bench(page, session);
  }

  async metrics() {
    const { metrics } = await this.session.send("Performance.getMetrics");
    return Object.fromEntries(metrics.map((m) => [m.name, m.value]));
  }

  /** Lengths of the long tasks since this was last asked, in ms. */
  async longTasks() {
    // They are told a moment later.
    await this.painted();
    return this.page.evaluate(() => bench.longTasks());
  }

  painted() {
    return this.page.evaluate(() => bench.painted());
  }

  /** Milliseconds of the main thread's processor time, and on the wall, from an action until it is on screen. */
  async cost(action) {
    return (await this.each(1, action))[0];
  }

  /** The same for each of many steps, less what measuring itself costs; one look at the clock between two steps. */
  async costs(steps, action) {
    const idle = at(
      (await this.each(12, async () => undefined)).map((f) => f.cpu),
      0.5,
    );
    const found = await this.each(steps, action);
    for (const f of found) f.cpu -= idle;
    return found;
  }

  async each(steps, action) {
    const found = [];
    let before = await this.metrics();
    for (let i = 0; i < steps; i++) {
      const wall = performance.now();
      await action(i);
      await this.painted();
      const after = await this.metrics();
      found.push(spent(before, after, performance.now() - wall));
      before = after;
    }
    return found;
  }

  async heap() {
    await this.session.send("HeapProfiler.collectGarbage");
    const { JSHeapUsedSize, Nodes } = await this.metrics();
    return { bytes: JSHeapUsedSize, nodes: Nodes };
  }
}

/** Say what the steps took, and every long task since the last report: the press and the release among them. */
async function report(bench, what, found) {
  const long = await bench.longTasks();
  const cpu = found.map((f) => f.cpu);
  const over = cpu.filter((ms) => ms > FRAME_MS).length / cpu.length;
  const mean = (key) => found.reduce((sum, f) => sum + f[key], 0) / found.length;
  console.log(
    `  ${what.padEnd(34)} p50 ${at(cpu, 0.5).toFixed(1)}  p95 ${at(cpu, 0.95).toFixed(1)}  most ${Math.max(...cpu).toFixed(1)} ms` +
      `  (script ${mean("script").toFixed(1)}, layout ${mean("layout").toFixed(1)})` +
      `  over a frame ${(100 * over).toFixed(0)} %  wall p50 ${at(
        found.map((f) => f.wall),
        0.5,
      ).toFixed(0)} ms` +
      `  long tasks ${long.length === 0 ? "none" : long.map((ms) => `${ms} ms`).join(", ")}`,
  );
}

async function dragSlider(bench, selector) {
  const stops = await bench.page.$$eval(selector, ([slider]) => {
    const { left, top, width, height } = slider.getBoundingClientRect();
    const [last, inset] = [
      Number(slider.ariaValueMax),
      Number.parseFloat(getComputedStyle(slider).paddingLeft),
    ];
    const step = (width - 2 * inset) / last;
    return Array.from({ length: last + 1 }, (_, i) => [left + inset + i * step, top + height / 2]);
  });
  await bench.page.mouse.move(...stops[0]);
  await bench.page.mouse.down();
  await bench.page.mouse.move(...stops[1]);
  const found = await bench.costs(STEPS, (i) =>
    bench.page.mouse.move(...stops[[2, 3, 4, 5, 6, 5, 4, 3, 2, 1][i % 10]]),
  );
  await bench.page.mouse.up();
  return found;
}

async function size(browser, code, ops) {
  const bench = await Bench.start(browser, code);
  const { page } = bench;
  await page.evaluate((n) => bench.prepare(n), ops);
  const first = await bench.cost(() => page.evaluate(() => bench.open()));
  console.log(`${ops.toLocaleString("en")} ops`);
  console.log(`  first paint ${first.cpu.toFixed(0)} ms, wall ${first.wall.toFixed(0)} ms`);
  // Of the first paint.
  await page.waitForTimeout(REST_MS);
  await bench.longTasks();
  await report(
    bench,
    "drag bits of all weights",
    await dragSlider(bench, "[role=slider][aria-label='Bits of all weights']"),
  );
  await report(bench, "drag bits of one row", await dragSlider(bench, "[data-testid=op-row] [role=slider]"));
  const grid = await page.locator("[role=grid]").boundingBox();
  await page.mouse.move(grid.x + 60, grid.y + 120);
  // Down and up again, so that a short table does not come to its end.
  const turn = (i) => page.mouse.wheel(0, i % 30 < 15 ? 90 : -90);
  await report(bench, "scroll the table", await bench.costs(STEPS, turn));
  const canvas = await page.locator("[data-testid=graph-canvas]").boundingBox();
  await page.locator("[role=treeitem][aria-label^='encoder.layer,']").press("ArrowRight");
  await page.mouse.move(canvas.x + 12, canvas.y + canvas.height - 12);
  await bench.longTasks();
  await page.mouse.down();
  await report(
    bench,
    "pan the graph, layers open",
    await bench.costs(STEPS, (i) =>
      page.mouse.move(canvas.x + 12 + i * 2, canvas.y + canvas.height - 12 - i * 3),
    ),
  );
  await page.mouse.up();
  await page.close();
}

async function expand(browser, code) {
  const bench = await Bench.start(browser, code);
  await bench.page.evaluate(() => {
    bench.prepare(506);
    bench.flatten();
    bench.open();
  });
  await bench.painted();
  const box = bench.page.locator("[role=treeitem][aria-label^='body,']");
  await box.focus();
  const found = await bench.cost(() => bench.page.keyboard.press("ArrowRight"));
  console.log(
    `open a module of 500 ops: ${found.cpu.toFixed(0)} ms (layout and style ${found.layout.toFixed(0)}), wall ${found.wall.toFixed(0)} ms`,
  );
  await bench.page.close();
}

async function memory(browser, code) {
  const bench = await Bench.start(browser, code);
  const once = async () => {
    await bench.page.evaluate(() => {
      bench.prepare(10_000);
      bench.open();
    });
    await bench.painted();
    await bench.page.evaluate(() => bench.close());
    await bench.painted();
  };
  await once();
  const before = await bench.heap();
  for (let i = 0; i < 10; i++) await once();
  const after = await bench.heap();
  console.log(
    `ten Explorers of 10,000 ops opened and closed: heap ${(before.bytes / 1e6).toFixed(1)} → ${(after.bytes / 1e6).toFixed(1)} MB, nodes ${before.nodes} → ${after.nodes}`,
  );
  await bench.page.close();
}

const code = await bundle();
const browser = await chromium.launch({
  executablePath: browserPath(),
  args: ["--no-sandbox", "--disable-gpu"],
});
const sizes = process.argv.slice(2).map(Number);
for (const ops of sizes.length > 0 ? sizes : SIZES) await size(browser, code, ops);
await expand(browser, code);
await memory(browser, code);
await browser.close();
