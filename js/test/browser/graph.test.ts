/** The picture itself: stacks of equal modules, the map, the rubber band, and what the colours mean. */

import { afterEach, expect, test } from "vitest";
import {
  all,
  button,
  byName,
  click,
  closeAll,
  drag,
  get,
  item,
  mount,
  mountOpen,
  paint,
  point,
  pressBox,
  row,
  settled,
  toggleBox,
} from "./page";

afterEach(closeAll);

const OPS_A_LAYER = 23;
const overlap = (a: DOMRect, b: DOMRect): boolean =>
  a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
const selected = (model: { get(key: string): unknown }): number[] => model.get("selected_ops") as number[];
const colourBy = async (el: ParentNode, metric: string): Promise<void> => {
  const select = get<HTMLSelectElement>(el, "select[aria-label='Colour by']");
  select.value = metric;
  select.dispatchEvent(new Event("change", { bubbles: true }));
  await settled();
};

test("the layers are one stack, which stands for all of their ops", async () => {
  const { el, model } = mount();
  await settled();
  expect(all(el, "[role=treeitem]").length).toBe(3);
  const stack = item(el, "encoder.layer, 6 built alike");
  expect(stack.ariaExpanded).toBe("false");
  pressBox(el, stack);
  expect(selected(model).length).toBe(6 * OPS_A_LAYER);
  await settled();
  expect(item(el, "encoder.layer,").ariaSelected).toBe("true");
});

test("what is done to one of the equal modules is offered for all of them", async () => {
  const { el, model } = await mountOpen({}, "graph");
  await toggleBox(el, item(el, "encoder.layer.2,"));
  expect(all(el, "[role=treeitem][aria-expanded=true]").length).toBe(2);
  click(button(el, "Open all 6 alike"));
  await settled();
  expect(all(el, "[role=treeitem][aria-expanded=true]").length).toBe(7);
  expect(() => button(el, "Open all 6 alike")).toThrow();
  button(el, "Fit").click();
  await settled();
  const dense = item(el, "encoder.layer.2.intermediate,");
  pressBox(el, dense);
  await settled();
  const one = selected(model).length;
  pressBox(el, item(el, "embeddings,"));
  await settled();
  expect(() => button(el, "Select in all 13 alike")).toThrow();
  pressBox(el, dense);
  await settled();
  expect(button(el, "Select in all 6 alike").checkVisibility()).toBe(true);
  click(button(el, "Select in all 6 alike"));
  await settled();
  expect(selected(model).length).toBe(6 * one);
  expect(item(el, "encoder.layer.5.intermediate,").ariaSelected).toBe("true");
});

test("of many frames around an op the innermost are named in full, and those between are one", async () => {
  const { el } = await mountOpen({}, "explorer");
  const crumbs = get(el, ".tlr-crumbs");
  for (const box of ["encoder.layer.0,", "encoder.layer.0.attention,", "encoder.layer.0.attention.self,"])
    await toggleBox(el, item(el, box));
  row(el, "encoder_layer_0_attention_self_query").click();
  await settled();
  const names = all(crumbs, "button");
  expect(names.map((each) => each.textContent)).toEqual(["model", "…", "self", "query"]);
  expect(names[1]!.title).toBe("encoder.layer.0.attention");
  for (const each of all(crumbs, "span, button"))
    expect(each.scrollWidth).toBeLessThanOrEqual(each.clientWidth + 1);
});

test("a map is there while not all is on screen, and a drag on it moves the view", async () => {
  const { el } = mount({ ops: 1000 });
  await settled();
  expect(el.querySelector("[data-testid=minimap]")).toBeNull();
  await toggleBox(el, item(el, "encoder.layer,"));
  const map = get(el, "[data-testid=minimap]").getBoundingClientRect();
  const last = item(el, "encoder.layer.44,");
  const canvas = get(el, "[data-testid=graph-canvas]").getBoundingClientRect();
  expect(last.getBoundingClientRect().top).toBeGreaterThan(canvas.bottom);
  const at = { x: map.left + map.width / 2, y: map.bottom - 6 };
  point(get(el, "[data-testid=minimap]"), "pointerdown", at, { buttons: 1 });
  await settled();
  const there = item(el, "encoder.layer.44,").getBoundingClientRect();
  expect(there.top > canvas.top && there.bottom < canvas.bottom).toBe(true);
  button(el, "Fit").click();
  await settled();
  expect(el.querySelector("[data-testid=minimap]")).toBeNull();
});

test("shift-drag, or a drag in select mode, takes the boxes that the band touches", async () => {
  const { el, model } = await mountOpen();
  button(el, "Fit").click();
  await settled();
  const canvas = get(el, "[data-testid=graph-canvas]");
  const band = (from: HTMLElement, to: HTMLElement, extra: PointerEventInit = {}): void => {
    const [a, b] = [from.getBoundingClientRect(), to.getBoundingClientRect()];
    point(canvas, "pointerdown", { x: a.left - 3, y: a.top + 2 }, extra);
    point(canvas, "pointermove", { x: b.left + 5, y: b.top + 4 }, extra);
    point(canvas, "pointerup", { x: b.left + 5, y: b.top + 4 }, extra);
  };
  const layer = (n: number): HTMLElement => item(el, `encoder.layer.${n},`);
  band(layer(1), layer(3), { shiftKey: true });
  await settled();
  expect(selected(model).length).toBe(3 * OPS_A_LAYER);
  expect([0, 1, 2, 3, 4].map((n) => layer(n).ariaSelected)).toEqual([
    "false",
    "true",
    "true",
    "true",
    "false",
  ]);
  const before = layer(0).getBoundingClientRect().top;
  click(get(el, "[aria-label='Select by dragging']"));
  await settled();
  band(layer(4), layer(5), { ctrlKey: true });
  await settled();
  expect(selected(model).length).toBe(5 * OPS_A_LAYER);
  expect(layer(0).getBoundingClientRect().top).toBe(before);
});

test("the legend reads the box under the pointer on every scale", async () => {
  const { el } = mount({ errors: true });
  await settled();
  const canvas = get(el, "[data-testid=graph-canvas]");
  const mark = (): number => Number.parseFloat(get(el, ".tlr-legend-mark").style.backgroundPosition);
  const over = async (name: string): Promise<void> => {
    const b = item(el, name).getBoundingClientRect();
    point(canvas, "pointermove", { x: b.left + b.width / 2, y: b.top + b.height / 2 });
    await settled();
  };
  const line = (): HTMLElement => get(el, ".tlr-readout");
  expect(line().checkVisibility()).toBe(false);
  point(get(el, ".tlr-canvas"), "pointerenter", { x: 0, y: 0 });
  await settled();
  expect(line().textContent).toContain("Double-click a box");
  await over("embeddings,");
  expect(mark()).toBe(100);
  await over("encoder.layer,");
  expect(mark()).toBeLessThan(100);
  expect(line().textContent).toContain("6 built alike");
  await colourBy(el, "FLOPs");
  await over("encoder.layer,");
  expect(mark()).toBe(100);
  expect(get(el, ".tlr-legend").textContent).toContain("FLOPs");
  await colourBy(el, "error");
  await over("encoder.layer,");
  expect(mark()).toBe(0);
  drag(byName(el, "slider", "Bits of all weights"), 3);
  await settled();
  expect(mark()).toBeGreaterThan(0);
  expect(line().textContent).toContain("dB");
  point(get(el, ".tlr-canvas"), "pointerleave", { x: 0, y: 0 });
  await settled();
  expect(line().checkVisibility()).toBe(false);
});

test("at a laptop's width the opening picture can be read, and no button lies over it", async () => {
  const { el } = mount({}, "explorer", 1007);
  await settled();
  const canvas = get(el, ".tlr-canvas").getBoundingClientRect();
  expect(canvas.height).toBeGreaterThan(190);
  for (const each of all(el, ".tlr-graph button"))
    expect(overlap(each.getBoundingClientRect(), canvas), each.textContent!).toBe(false);
  const modules = all(el, "[role=treeitem][aria-expanded=false]").map((each) => each.getBoundingClientRect());
  expect(modules.length).toBeGreaterThan(2);
  for (const { height } of modules) expect(height).toBeGreaterThan(17);
});

test("a change is shown on both sides of none", async () => {
  const { el } = mount();
  await settled();
  await colourBy(el, "change of size");
  const [embeddings, layers] = [item(el, "embeddings,"), item(el, "encoder.layer,")];
  expect(paint(el, embeddings)).toBe(paint(el, layers));
  pressBox(el, layers);
  await settled();
  const none = paint(el, embeddings);
  drag(byName(el, "slider", "Bits of 138 ops"), 3);
  await settled();
  expect(paint(el, embeddings)).toBe(none);
  expect(paint(el, layers)).not.toBe(none);
  await expect.poll(() => item(el, "encoder.layer,").ariaLabel).toMatch(/change of size −7\d/);
});
