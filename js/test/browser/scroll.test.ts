/** A scroll of the table: the same elements show other ops, and nothing that a person holds moves to another op. */

import { afterEach, expect, test } from "vitest";
import { all, byName, cell, closeAll, frame, get, mount, point, press, rows, settled, stopAt } from "./page";

afterEach(closeAll);

const open = async (): Promise<{ el: HTMLElement; grid: HTMLElement }> => {
  const { el } = mount({ ops: 2000, errors: true }, "table", 1500);
  await settled();
  return { el, grid: get(el, "[role=grid]") };
};

/** Scroll, and see what it did to the elements. */
async function scroll(grid: HTMLElement, ...tops: number[]): Promise<MutationRecord[]> {
  const observer = new MutationObserver(() => undefined);
  observer.observe(grid, { childList: true, subtree: true });
  for (const top of tops) {
    grid.scrollTop = top;
    await frame();
    await frame();
  }
  const records = observer.takeRecords();
  observer.disconnect();
  return records;
}

/** The table knows that a scroll has ended, and has done what it left for then. */
const rested = async (): Promise<void> => {
  await new Promise((done) => setTimeout(done, 250));
  await settled();
};

const inDocument = (el: HTMLElement): number[] =>
  all(el, "[data-testid=op-row]").map((r) => Number(r.ariaRowIndex));

test("makes and removes no element, down, up, by jumps and to the end", async () => {
  const { el, grid } = await open();
  const first = rows(el).map((r) => r.textContent);
  const names = rows(el).map((r) => cell(r, "name"));
  const records = await scroll(grid, 60, 130, 300, 260, 5000, 1_000_000, 900, 0);
  expect(records.flatMap((r) => [...r.addedNodes, ...r.removedNodes])).toEqual([]);
  expect(rows(el).map((r) => cell(r, "name"))).toEqual(names);
  expect(rows(el).map((r) => r.textContent)).toEqual(first);
});

test("shows every row in view, each with what is its own", async () => {
  const { el, grid } = await open();
  await scroll(grid, 400, 777);
  const { top, bottom } = grid.getBoundingClientRect();
  const seen = rows(el).filter((r) => {
    const box = r.getBoundingClientRect();
    return box.bottom > top && box.top < bottom;
  });
  expect(seen[0]!.getBoundingClientRect().top).toBeLessThanOrEqual(top);
  expect(seen.at(-1)!.getBoundingClientRect().bottom).toBeGreaterThanOrEqual(bottom);
  const places = seen.map((r) => Number(r.ariaRowIndex));
  expect(places).toEqual(places.map((_, i) => places[0]! + i));
  for (const r of seen) {
    const name = cell(r, "name");
    const slider = r.querySelector("[role=slider]");
    expect(slider?.ariaLabel ?? `Bits of ${name}`).toBe(`Bits of ${name}`);
    expect(slider !== null).toBe(cell(r, "size") !== "");
    expect(r.id.endsWith(`-row-${r.dataset.op}`)).toBe(true);
  }
});

test("leaves the rows in their order in the document once it rests", async () => {
  const { el, grid } = await open();
  await scroll(grid, 70, 200, 350);
  await rested();
  const places = inDocument(el);
  expect(places).toEqual([...places].sort((a, b) => a - b));
});

test("leaves the focus in a slider with its op, which the keys go on to set", async () => {
  const { el, grid } = await open();
  const name = cell(rows(el)[3]!, "name");
  const slider = byName(el, "slider", `Bits of ${name}`);
  slider.focus();
  await scroll(grid, 300, 3000, 20_000);
  await rested();
  expect(document.activeElement).toBe(slider);
  expect(slider.ariaLabel).toBe(`Bits of ${name}`);
  press(slider, "ArrowRight");
  await scroll(grid, 0);
  expect(cell(rows(el).find((r) => cell(r, "name") === name)!, "bits")).toBe("8");
});

test("lights up the row below the pointer when it has ended, and none that passed", async () => {
  const { el, grid } = await open();
  const hovered = (): (string | undefined)[] => all(el, ".tlr-row.is-hovered").map((r) => r.dataset.op);
  await scroll(grid, 200);
  const passing = rows(el)[9]!;
  point(passing, "pointerenter", { x: 1, y: 1 });
  await frame();
  expect(hovered()).toEqual([]);
  await rested();
  expect(hovered()).toEqual([passing.dataset.op]);
});

test("rows out of view wait while a slider is held, and follow when it is let go or they come into view", async () => {
  const { el } = mount({ ops: 2000 }, "explorer", 1500);
  await settled();
  const grid = get(el, "[role=grid]");
  const bits = (): string[] => rows(el).map((r) => cell(r, "bits"));
  const slider = byName(el, "slider", "Bits of all weights");
  const count = bits().length;
  point(slider, "pointerdown", stopAt(slider, 0));
  point(slider, "pointermove", stopAt(slider, 3));
  await frame();
  const waiting = bits().filter((b) => b === "16").length;
  expect(waiting).toBeGreaterThan(2);
  expect(bits().slice(0, count - waiting)).toEqual(Array(count - waiting).fill("4"));
  const { bottom } = grid.getBoundingClientRect();
  const first = rows(el)[count - waiting]!;
  expect(first.getBoundingClientRect().top).toBeGreaterThanOrEqual(bottom - 28);
  grid.scrollTop = 30;
  await settled();
  expect(new Set(bits())).toEqual(new Set(["4"]));
  await rested();
  point(slider, "pointermove", stopAt(slider, 1));
  point(slider, "pointerup", stopAt(slider, 1));
  await settled();
  expect(new Set(bits())).toEqual(new Set(["8"]));
});
