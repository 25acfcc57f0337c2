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
    expect(get(el, "[role=grid]").clientHeight).toBeGreaterThan(table + 70);
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

/** The first place in a chart where something is under the pointer. */
function findPoint(el: ParentNode, test: string): { x: number; y: number } {
  const canvas = get(el, `[data-testid=${test}]`);
  const box = canvas.getBoundingClientRect();
  for (let y = box.top + 6; y < box.bottom - 6; y += 5)
    for (let x = box.left + 30; x < box.right - 6; x += 5) {
      point(canvas, "pointermove", { x, y });
      if (canvas.parentElement?.style.cursor === "pointer") return { x, y };
    }
  throw new Error(`nothing in ${test}`);
}
const readout = (el: ParentNode): string => get(el, ".tlr-dock-readout").textContent ?? "";

describe("size × error", () => {
  test("a point is a weight: hover names it, a press selects its op, a band all inside", async () => {
    const page = mount({ errors: true });
    const { el } = page;
    await settled();
    drag(byName(el, "slider", "Bits of all weights"), 3);
    tab(el, "Size × error").click();
    await settled();
    const shown = get<HTMLCanvasElement>(el, "[data-testid=scatter]");
    const over = byName(el, "slider", "Size and error");
    const at = findPoint(el, "scatter");
    await frame();
    expect(readout(el)).toMatch(/ · .* · .* · ≈?.*(dB|no error)/);
    point(shown, "pointerdown", at);
    point(shown, "pointerup", at);
    expect(selected(page).length).toBeGreaterThan(0);
    const box = shown.getBoundingClientRect();
    point(shown, "pointerdown", { x: box.left + 50, y: box.top + 1 });
    point(shown, "pointermove", { x: box.right - 1, y: box.bottom - 10 });
    point(shown, "pointerup", { x: box.right - 1, y: box.bottom - 10 });
    expect(selected(page).length).toBeGreaterThan(30);
    over.focus();
    press(over, "Home");
    press(over, "Enter");
    expect(selected(page)).toEqual([0]);
    await frame();
    expect(over.ariaValueText).toMatch(
      /^embeddings_word_embeddings_weight · palettize, 4 bits|^embeddings_word_embeddings_weight/,
    );
  });
});

describe("the Pareto front", () => {
  const answer = ({ model }: Page, along: string): void => {
    const { id } = model.get("request") as { id: string };
    const weights = (model.get("program") as { weights: { name: string[] } }).weights.name.length;
    const plans = [6, 3, 1, 3];
    model.push("response", {
      id,
      action: "pareto",
      ok: true,
      message: "",
      along,
      grade: "weight",
      what: "noise to signal",
      uniform: ["", "", "", "4-bit palettize"],
      amount: [1.2, 4.2, 8.1, 4.1],
      error: [10, 0.5, 0.01, 0.6],
      scheme: plans.flatMap((scheme) => new Array<number>(weights).fill(scheme)),
    });
  };

  test("is asked for once, and a press takes a plan as one step", async () => {
    const page = mount({ errors: true });
    const { el, model } = page;
    await settled();
    tab(el, "Pareto").click();
    await settled();
    expect(get(el, "[role=tabpanel]").textContent).toContain("waiting for the kernel");
    expect(model.get("request")).toMatchObject({ action: "pareto", along: "bits" });
    answer(page, "bits");
    await settled();
    const size = value(el, "total-size");
    const plans = byName(el, "slider", "Pareto front");
    expect(plans.ariaValueMax).toBe("4");
    plans.focus();
    press(plans, "ArrowRight");
    await frame();
    expect(plans.ariaValueText).toContain("best plan: 4.20");
    press(plans, "Enter");
    await frame();
    expect(value(el, "total-size")).toBeLessThan(size / 2);
    button(el, "Undo").click();
    await frame();
    expect(value(el, "total-size")).toBe(size);

    const { id } = model.get("request") as { id: string };
    tab(el, "History").click();
    await frame();
    tab(el, "Pareto").click();
    await settled();
    expect((model.get("request") as { id: string }).id, "kept, not asked for again").toBe(id);
    expect(byName(el, "slider", "Pareto front").ariaValueMax).toBe("4");
    const at = findPoint(el, "pareto");
    point(get(el, "[data-testid=pareto]"), "pointerup", at);
    await frame();
    expect(value(el, "total-size")).toBeLessThan(size / 2);
  });

  test("why there is none is said", async () => {
    const { el, model } = mount();
    await settled();
    tab(el, "Pareto").click();
    await settled();
    const { id } = model.get("request") as { id: string };
    model.push("response", { id, action: "pareto", ok: false, message: "No plan keeps that." });
    await frame();
    expect(get(el, "[role=tabpanel] [role=alert]").textContent).toBe("No plan keeps that.");
  });
});

describe("sensitivity", () => {
  test("says how it is found, then ranks weights by what their next step adds", async () => {
    const page = mount({ errors: true });
    const { el, model } = page;
    await settled();
    tab(el, "Sensitivity").click();
    await frame();
    expect(get(el, "[role=tabpanel]").textContent).toContain("session.error = tnb.sensitivity");
    // A sentence that flows: parts of a flexible box would lose the spaces between them.
    expect(all(el, ".tlr-chart-note > *")).toHaveLength(1);
    const costs = model.get("costs") as { schemes: unknown[]; legal: DataView };
    const weights = (model.get("program") as { weights: { name: string[] } }).weights.name.length;
    const error = Float64Array.from({ length: weights * costs.schemes.length }, (_, i) =>
      i % costs.schemes.length === 0 ? 0 : i,
    );
    model.push("error_state", { grade: "estimated", what: "KL", metric: "kl", error });
    await settled();
    const ranking = byName(el, "slider", "Sensitivity");
    expect(Number(ranking.ariaValueMax)).toBeGreaterThan(20);
    expect(ranking.ariaValueText).toMatch(/^1\. .* would add ≈.* \(kl\) and save /);
    press(ranking, "Enter");
    expect(selected(page).length).toBe(1);
  });
});
