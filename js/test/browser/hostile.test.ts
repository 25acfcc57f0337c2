/** Names from a model that try to be more than text, in every view: they are shown, do nothing, and take no room. */

import { afterEach, describe, expect, test } from "vitest";
import type { ViewName } from "../../src/views/root";
import { offer } from "./answers";
import { EVIL, LONG, answer as tell } from "./evil";
import {
  all,
  button,
  byName,
  closeAll,
  drag,
  frame,
  get,
  mount,
  type Page,
  point,
  press,
  settled,
} from "./page";

const NAMES = { prefix: EVIL + LONG, name: `${EVIL}${LONG}`, errors: true };

afterEach(closeAll);

/** Whether something between a part and its view cuts it off, or scrolls. */
function isClipped(part: HTMLElement, root: HTMLElement): boolean {
  for (let el = part.parentElement; el && el !== root; el = el.parentElement)
    if (getComputedStyle(el).overflowX !== "visible") return true;
  return false;
}

function intact(el: ParentNode, what: string): void {
  expect(el.querySelector("img, script, iframe, b"), what).toBeNull();
  expect((window as unknown as { hacked?: number }).hacked, what).toBeUndefined();
  const root = get(el, ".tlr");
  expect(root.scrollWidth, what).toBeLessThanOrEqual(root.clientWidth);
  const { left, right } = root.getBoundingClientRect();
  for (const part of all(root, "*").filter((each) => !isClipped(each, root))) {
    const box = part.getBoundingClientRect();
    const name = `${what}: ${part.outerHTML.slice(0, 80)}`;
    if (box.width > 0) expect(box.left, name).toBeGreaterThanOrEqual(left - 1);
    if (box.width > 0) expect(box.right, name).toBeLessThanOrEqual(right + 1);
  }
}

test.each<[ViewName, number]>([
  ["explorer", 1230],
  ["explorer", 900],
  ["summary", 900],
  ["table", 700],
  ["graph", 500],
  ["details", 400],
  ["sliders", 500],
])("the view %s, %i px wide", async (view, width) => {
  const page = mount(NAMES, view, width);
  await settled();
  page.model.push("selected_ops", [0]);
  await settled();
  intact(page.el, view);
  if (view !== "summary" && view !== "graph") expect(page.el.textContent).toContain("<script>");
});

test("menus of filters and columns, and the graph with everything open", async () => {
  const { el } = mount(NAMES);
  await settled();
  for (const name of ["Filter by type", "Filter by module", "Filter by bound", "Columns"]) {
    button(el, name).click();
    await settled();
    intact(el, name);
    press(document.activeElement!, "Escape");
    await frame();
  }
  const before = all(el, "[role=treeitem]").length;
  for (const closed of all(el, "[role=treeitem][aria-expanded=false]")) press(closed, "ArrowRight");
  await settled();
  expect(all(el, "[role=treeitem]").length).toBeGreaterThan(before);
  intact(el, "the graph");
});

describe("the charts", () => {
  const tab = async ({ el }: Page, name: string): Promise<void> => {
    all(el, "[role=tab]")
      .find((t) => t.textContent === name)!
      .click();
    await settled();
  };

  test("timeline, size and error, sensitivity, the front and the history", async () => {
    const page = mount(NAMES);
    const { el, model } = page;
    await settled();
    const timeline = get(el, "[data-testid=timeline]").getBoundingClientRect();
    point(get(el, "[data-testid=timeline]"), "pointermove", {
      x: timeline.left + 0.1 * timeline.width,
      y: timeline.top + 0.7 * timeline.height,
    });
    await frame();
    expect(get(el, ".tlr-dock-readout").textContent).toContain("<script>");
    intact(el, "timeline");

    drag(byName(el, "slider", "Bits of all weights"), 3);
    await tab(page, "Size × error");
    press(byName(el, "slider", "Size and error"), "Home");
    await frame();
    expect(byName(el, "slider", "Size and error").ariaValueText).toContain("<script>");
    intact(el, "size and error");

    const weights = (model.get("program") as { weights: { name: string[] } }).weights.name.length;
    const { schemes } = model.get("costs") as { schemes: unknown[] };
    const error = Float64Array.from({ length: weights * schemes.length }, (_, i) => i % schemes.length);
    model.push("error_state", { grade: "estimated", what: EVIL, metric: EVIL, error });
    await tab(page, "Sensitivity");
    intact(el, "sensitivity");

    await tab(page, "Pareto");
    tell(model, "pareto", {
      along: "bits",
      grade: "weight",
      what: EVIL,
      uniform: ["", EVIL + LONG],
      amount: [1.2, 4.2],
      error: [10, 0.5],
      scheme: [6, 3].flatMap((scheme) => new Array<number>(weights).fill(scheme)),
    });
    await settled();
    intact(el, "Pareto");

    const kept = { name: EVIL + LONG, scheme: new Array<number>(weights).fill(3), int8: [] };
    model.push("snapshot_state", [kept]);
    model.push("baseline_state", kept);
    await tab(page, "History");
    expect(get(el, "[role=tabpanel]").textContent).toContain("<script>");
    intact(el, "history");
  });
});

test("what is exported, and what Python answers", async () => {
  const { el, model } = mount(NAMES);
  await settled();
  button(el, "Export").click();
  await settled();
  intact(el, "the menu");
  all(el, "[role=menuitem]")[0]!.click();
  tell(model, "export", {
    what: "python",
    message: EVIL + LONG,
    texts: [{ title: EVIL + LONG, text: EVIL + LONG }],
    saved: [`/tmp/${EVIL}${LONG}.py`],
  });
  await settled();
  expect(get(el, "dialog").textContent).toContain("<script>");
  intact(el, "exported source");
  button(get(el, "dialog"), "Close").click();
  await settled();

  button(el, "Optimize…").click();
  await settled();
  tell(model, "optimize", { ...offer(model), what: EVIL + LONG, warning: EVIL + LONG });
  await settled();
  intact(el, "Optimize");
});
