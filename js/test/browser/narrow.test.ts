/** How views fold where there is less room: totals in even columns, parts that take turns, names with one ellipsis. */

import { afterEach, expect, test } from "vitest";
import session from "../../src/session";
import { FakeModel } from "../fakeModel";
import { all, button, byName, closeAll, get, mount, press, row, rows, settled } from "./page";

afterEach(closeAll);

const shown = (el: ParentNode, selector: string): boolean =>
  get(el, selector).getBoundingClientRect().width > 0;

test.each([
  [1260, [6]],
  [1007, [3, 3]],
  [900, [3, 3]],
  [720, [3, 3]],
  [667, [3, 3]],
  [480, [2, 2, 2]],
])("at %i px the totals stand in even rows, nothing is cut and nothing scrolls", async (width, expected) => {
  const { el } = mount({ errors: true }, "explorer", width);
  await settled();
  const totals = get(el, ".tlr-summary");
  const high = totals.offsetHeight;
  press(byName(el, "slider", "Bits of all weights"), "End");
  await settled();
  expect(totals.offsetHeight, "longer figures move nothing").toBe(high);
  expect(totals.scrollWidth).toBeLessThanOrEqual(totals.clientWidth);
  const figures = all(totals, ".tlr-figure");
  const tops = figures.map((figure) => Math.round(figure.getBoundingClientRect().top));
  expect([...new Set(tops)].map((top) => tops.filter((each) => each === top).length)).toEqual(expected);
  for (const figure of figures) expect(figure.scrollWidth).toBeLessThanOrEqual(figure.clientWidth + 1);
  const { right } = totals.getBoundingClientRect();
  for (const change of all(totals, ".tlr-change"))
    expect(change.getBoundingClientRect().right, "figures are whole").toBeLessThanOrEqual(
      change.closest(".tlr-figure")!.getBoundingClientRect().right + 1,
    );
  for (const part of all(el, ".tlr-header > *, .tlr-toolbar > *, .tlr-sliders > *, .tlr-dock-bar > *"))
    expect(part.getBoundingClientRect().right, part.className).toBeLessThanOrEqual(right);
  expect(get(el, ".tlr-grid-body, [role=grid]").getBoundingClientRect().height).toBeGreaterThan(100);
});

test("at a laptop's width the header says all of what the model is, and an edit moves nothing in it", async () => {
  const { el } = mount({ errors: true }, "explorer", 1007);
  await settled();
  const facts = get(el, ".tlr-facts");
  expect(facts.scrollWidth).toBeLessThanOrEqual(facts.clientWidth);
  const places = (): number[] =>
    all(el, ".tlr-header > *").map((each) => Math.round(each.getBoundingClientRect().left));
  const before = places();
  press(byName(el, "slider", "Bits of all weights"), "End");
  await settled();
  expect(places()).toEqual(before);
});

test.each([900, 1007, 1260, 1328, 1700])(
  "at %i px the bar for the selection is one row, of whole words",
  async (width) => {
    const { el } = mount({ errors: true }, "explorer", width);
    await settled();
    const bar = get(el, ".tlr-sliders-bar");
    const empty = bar.clientHeight;
    row(el, "encoder_layer_0_attention_self_query").click();
    await settled();
    expect(bar.textContent).toContain("repeats");
    expect(bar.clientHeight).toBe(empty);
    const tops = all(bar, ":scope > :not(:empty)").map((part) => {
      const { top, height } = part.getBoundingClientRect();
      return Math.round(top + height / 2);
    });
    expect(Math.max(...tops) - Math.min(...tops)).toBeLessThan(4);
    const what = get(bar, ".tlr-sliders-what");
    expect(what.scrollWidth).toBeLessThanOrEqual(what.clientWidth);
  },
);

test("what fills a column is as wide as it is after the table was made narrower", async () => {
  const { el } = mount({}, "table", 1500);
  await settled();
  el.style.width = "685px";
  await settled();
  const [first] = rows(el);
  const shadow = get(first!, ".tlr-cell-size .tlr-bar .tlr-bar").style.boxShadow;
  const bar = Number(/(-?[\d.]+)px/.exec(shadow)?.[1]);
  expect(bar).toBeLessThanOrEqual(get(first!, ".tlr-cell-size").clientWidth - 16);
  const width = (part: string): number => get(first!, part).offsetWidth;
  expect(width(".tlr-bits") + width(".tlr-bits-value")).toBeLessThanOrEqual(width(".tlr-cell-bits") - 16);
});

test("below 900 px the parts take turns, and below 480 a sentence says what to do", async () => {
  const { el } = mount({}, "explorer", 700);
  await settled();
  expect([shown(el, "[role=grid]"), shown(el, ".tlr-canvas")]).toEqual([true, false]);
  expect(get(el, "[role=grid]").getBoundingClientRect().width).toBeGreaterThan(650);
  button(el, "Graph and details").click();
  await settled();
  expect([shown(el, "[role=grid]"), shown(el, ".tlr-canvas")]).toEqual([false, true]);
  const root = get(el, ".tlr");
  expect(root.scrollWidth).toBeLessThanOrEqual(root.clientWidth);
  el.style.width = "400px";
  await settled();
  expect(shown(el, ".tlr-too-narrow")).toBe(true);
  expect(shown(el, ".tlr-canvas")).toBe(false);
  el.style.width = "1000px";
  await settled();
  expect([shown(el, "[role=grid]"), shown(el, ".tlr-canvas"), shown(el, ".tlr-too-narrow")]).toEqual([
    true,
    true,
    false,
  ]);
});

test("what is hidden for a moment, as by a change of themes, is folded as before", async () => {
  const { el } = mount({}, "explorer", 1007);
  await settled();
  const root = get(el, ".tlr");
  expect(root.dataset.width).toBe("medium");
  el.style.display = "none";
  await settled();
  expect(root.dataset.width).toBe("medium");
});

test("a module's path is cut once at most; the number of the layer and the last name are read to the end", async () => {
  const { el } = mount({}, "table", 1500);
  await settled();
  const cells = rows(el).map((row) => get(row, ".tlr-cell-module"));
  const deep = cells.filter((cell) => /\.\d+\..*\./.test(cell.textContent ?? ""));
  expect(deep.length).toBeGreaterThan(3);
  for (let width = 200; width >= 90; width -= 5)
    for (const cell of deep) {
      cell.style.width = `${width}px`;
      const cut = all(cell, "span").filter((each) => each.scrollWidth > each.clientWidth);
      expect(cut.filter((each) => each.clientWidth > 0).length, `${cell.textContent}`).toBeLessThanOrEqual(1);
      const { right } = cell.getBoundingClientRect();
      for (const stays of all(cell, ".tlr-text-stays"))
        expect(stays.getBoundingClientRect().right, `${cell.textContent}`).toBeLessThanOrEqual(right);
      expect(cell.title).toBe(cell.textContent);
    }
});

test.each([
  [
    "of an output that scrolls beyond 610 px, as marimo's",
    "max-height: 610px; overflow: auto; padding: 16px",
    578,
  ],
  ["of one that is too low for any Explorer", "max-height: 312px; overflow: auto", 720],
  ["of one without a limit", "overflow: auto", 720],
])("the Explorer takes the height %s", async (_, style, expected) => {
  const output = document.createElement("div");
  output.style.cssText = style;
  const el = output.appendChild(document.createElement("div"));
  el.attachShadow({ mode: "open" });
  const { mount: draw } = session.initialize({ model: new FakeModel({ errors: true }) });
  const inside = el.shadowRoot!.appendChild(document.createElement("div"));
  const dispose = draw("explorer", inside);
  // As a host may do: the view is filled before it is in the page.
  document.body.append(output);
  await settled();
  expect(get(inside, ".tlr").offsetHeight).toBe(expected);
  const root = get(inside, ".tlr").getBoundingClientRect();
  for (const part of [".tlr-header", ".tlr-summary", ".tlr-total", ".tlr-sliders", ".tlr-tabs"]) {
    const { top, bottom, height } = get(inside, part).getBoundingClientRect();
    expect(height, part).toBeGreaterThan(10);
    expect([top >= root.top, bottom <= root.bottom], part).toEqual([true, true]);
  }
  expect(rows(inside).filter((row) => row.getBoundingClientRect().height > 20).length).toBeGreaterThan(3);
  dispose();
  output.remove();
});
