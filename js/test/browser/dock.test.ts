import { afterEach, describe, expect, test } from "vitest";
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
  row,
  rows,
  settled,
  value,
} from "./page";

afterEach(closeAll);

const tab = (el: ParentNode, name: string): HTMLElement => {
  const found = all(el, "[role=tab]").find((t) => t.textContent === name);
  if (!found) throw new Error(`no tab ${name}`);
  return found;
};
const canvas = (el: ParentNode): HTMLCanvasElement => get(el, "[data-testid=timeline]");
const reader = (el: ParentNode): HTMLElement => byName(el, "slider", "Timeline");
const selected = ({ model }: Page): number[] => model.get("selected_ops") as number[];

/** Where a share of the timeline's width is, in the middle of its bars. */
function at(el: ParentNode, share: number): { x: number; y: number } {
  const box = canvas(el).getBoundingClientRect();
  return { x: box.left + 12 + share * (box.width - 24), y: box.top + box.height * 0.7 };
}
const pixels = (el: ParentNode): string => canvas(el).toDataURL();

describe("the dock", () => {
  test("is a list of tabs for keys, and folds away", async () => {
    const { el } = mount();
    await settled();
    const timeline = tab(el, "Timeline");
    expect(timeline.ariaSelected).toBe("true");
    timeline.focus();
    press(timeline, "End");
    await frame();
    expect(document.activeElement).toBe(tab(el, "History"));
    expect(tab(el, "History").ariaSelected).toBe("true");
    expect(get(el, "[role=tabpanel]").getAttribute("aria-labelledby")).toBe(tab(el, "History").id);
    press(tab(el, "History"), "ArrowRight");
    await frame();
    expect(document.activeElement).toBe(timeline);
    const table = get(el, "[role=grid]").clientHeight;
    button(el, "Fold the charts away").click();
    await settled();
    expect(get(el, "[role=tabpanel]").hidden).toBe(true);
    expect(get(el, "[role=grid]").clientHeight).toBeGreaterThan(table + 80);
    tab(el, "Timeline").click();
    await settled();
    expect(get(el, "[role=tabpanel]").hidden).toBe(false);
  });

  test("gives way before the table in a low Explorer", async () => {
    const { el } = mount();
    await settled();
    const root = get(el, ".tlr");
    root.style.height = "420px";
    await settled();
    expect(get(el, ".tlr-body").clientHeight).toBeGreaterThanOrEqual(200);
    const bar = get(el, ".tlr-dock-bar").getBoundingClientRect();
    expect(bar.bottom).toBeLessThanOrEqual(root.getBoundingClientRect().bottom + 1);
  });
});

describe("the timeline", () => {
  test("a press selects an op in every view, a drag all that it crosses, empty space none", async () => {
    const page = mount();
    const { el } = page;
    await settled();
    point(canvas(el), "pointermove", at(el, 0.1));
    await frame();
    expect(get(el, ".tlr-dock-readout").textContent).toContain("embeddings_word_embeddings");
    point(canvas(el), "pointerdown", at(el, 0.1));
    point(canvas(el), "pointerup", at(el, 0.1));
    await frame();
    expect(selected(page)).toEqual([0]);
    expect(row(el, "embeddings_word_embeddings").ariaSelected).toBe("true");

    point(canvas(el), "pointerdown", at(el, 0.45));
    point(canvas(el), "pointermove", at(el, 0.6));
    point(canvas(el), "pointerup", at(el, 0.6));
    await frame();
    const crossed = selected(page);
    expect(crossed.length).toBeGreaterThan(5);
    expect(crossed).toEqual(crossed.map((_, i) => crossed[0]! + i));

    drag(byName(el, "slider", "Bits of"), 6);
    await frame();
    point(canvas(el), "pointerdown", at(el, 0.999));
    point(canvas(el), "pointerup", at(el, 0.999));
    await frame();
    expect(selected(page)).toEqual([]);
  });

  test("is repainted within the edit, and an op that is hovered elsewhere is marked", async () => {
    const { el } = mount();
    await settled();
    const before = pixels(el);
    const slider = byName(el, "slider", "Bits of all weights");
    press(slider, "ArrowRight");
    expect(pixels(el)).not.toBe(before);
    const now = pixels(el);
    point(rows(el)[0]!, "pointerover", { x: 0, y: 0 });
    point(rows(el)[0]!, "pointerenter", { x: 0, y: 0 });
    await frame();
    expect(pixels(el)).not.toBe(now);
  });

  test("keys go from op to op, select, and zoom; what is read says name, time and bound", async () => {
    const page = mount();
    const { el } = page;
    await settled();
    reader(el).focus();
    press(reader(el), "ArrowRight");
    press(reader(el), "ArrowRight");
    await frame();
    expect(reader(el).ariaValueNow).toBe("3");
    expect(reader(el).ariaValueText).toMatch(/embeddings_add_2 · add · ≈.*ms, .*%.* bound by /);
    press(reader(el), "Enter");
    expect(selected(page)).toEqual([2]);
    const whole = pixels(el);
    press(reader(el), "+");
    await frame();
    expect(pixels(el)).not.toBe(whole);
    press(reader(el), "0");
    await frame();
    expect(pixels(el)).toBe(whole);
    await expect.poll(() => reader(el).textContent).toContain("Longest: embeddings_word_embeddings");
  });
});

describe("history", () => {
  test("tells what each step came to, and a press walks there", async () => {
    const page = mount();
    const { el } = page;
    await settled();
    const sizes = [value(el, "total-size")];
    for (const stop of [1, 3]) {
      drag(byName(el, "slider", "Bits of all weights"), stop);
      await frame();
      sizes.push(value(el, "total-size"));
    }
    tab(el, "History").click();
    await frame();
    const steps = all(el, ".tlr-step");
    expect(steps.length).toBe(3);
    expect(steps[1]!.textContent).toContain("8 bits");
    expect(steps[2]!.getAttribute("aria-current")).toBe("step");
    steps[0]!.click();
    await frame();
    expect(value(el, "total-size")).toBe(sizes[0]);
    expect(all(el, ".tlr-step").length, "undone steps stay").toBe(3);
    all(el, ".tlr-step")[1]!.click();
    await frame();
    expect(value(el, "total-size")).toBe(sizes[1]);
    all(el, ".tlr-step")[2]!.click();
    await frame();
    expect(value(el, "total-size")).toBe(sizes[2]);
    expect(button(el, "Redo").disabled).toBe(true);
  });

  test("keeps plans under a name, takes them as one step, and forgets them", async () => {
    const page = mount();
    const { el, model } = page;
    await settled();
    tab(el, "History").click();
    await frame();
    const input = get<HTMLInputElement>(el, "input[aria-label='Name of the snapshot']");
    input.value = " small ";
    input.dispatchEvent(new InputEvent("input", { bubbles: true }));
    await frame();
    button(el, "Keep").click();
    const { id, ...asked } = model.get("request") as { id: string };
    expect(asked).toEqual({ action: "snapshot", name: "small" });
    const weights = (model.get("program") as { weights: { name: string[] } }).weights.name.length;
    model.push("snapshot_state", [{ name: "small", scheme: new Array(weights).fill(3), int8: [] }]);
    model.push("response", { id, action: "snapshot", ok: true, message: "" });
    await frame();
    const size = value(el, "total-size");
    button(el, "small").click();
    await frame();
    expect(value(el, "total-size")).toBeLessThan(size);
    expect(button(el, "small").ariaPressed).toBe("true");
    expect(all(el, ".tlr-step").length).toBe(2);
    button(el, "Undo").click();
    await frame();
    expect(value(el, "total-size")).toBe(size);
    button(el, "Forget small").click();
    expect(model.get("request")).toMatchObject({ action: "snapshot", name: "small", forget: true });
  });
});
