import { afterEach, expect, test } from "vitest";
import { byName, cell, closeAll, drag, frame, get, mount, rows, settled, value } from "./page";

afterEach(closeAll);

/** A plan with one scheme for every weight, as Python sends it. */
const kept = (name: string, weights: number, scheme: number): object => ({
  name,
  scheme: new Array<number>(weights).fill(scheme),
  int8: [],
});

test("every change on screen is measured against the baseline that Python sets", async () => {
  const { el, model } = mount();
  await settled();
  const weights = (model.get("program") as { weights: { name: string[] } }).weights.name.length;
  const embedding = (): string => cell(rows(el)[0]!, "size");
  const float16 = embedding();
  const size = value(el, "total-size");
  expect(float16).not.toContain("→");

  model.push("baseline_state", kept("4-bit", weights, 3));
  await frame();
  expect(value(el, "total-size"), "the plan itself stays").toBe(size);
  expect(embedding()).toMatch(new RegExp(`→ ${float16}$`));
  expect(get(el, ".tlr-summary").textContent).toContain("larger than 4-bit");
  expect(get(el, ".tlr-total .tlr-cell-size").textContent).toContain("→");

  model.push("baseline_state", {});
  await frame();
  expect(embedding()).toBe(float16);
  expect(get(el, ".tlr-summary").textContent).toContain("no change than float16");
});

test("the menu compares with steps and snapshots at once, and tells Python", async () => {
  const { el, model } = mount();
  await settled();
  const weights = (model.get("program") as { weights: { name: string[] } }).weights.name.length;
  const menu = get<HTMLSelectElement>(el, "select[aria-label='Compare with']");
  const choose = async (start: string): Promise<void> => {
    const option = [...menu.options].find((o) => o.textContent?.startsWith(start));
    if (!option) throw new Error(`no option ${start}`);
    menu.value = option.value;
    menu.dispatchEvent(new Event("change", { bubbles: true }));
    await frame();
  };
  const words = (): string => get(el, ".tlr-summary").textContent ?? "";
  const slider = byName(el, "slider", "Bits of all weights");
  drag(slider, 1);
  await frame();
  drag(slider, 3);
  await frame();
  const small = value(el, "total-size");

  await choose("vs step 1");
  expect(words()).toMatch(/smaller than step 1: .*8 bits/);
  expect(value(el, "total-size"), "the plan itself stays").toBe(small);
  const { scheme, ...asked } = model.get("request") as { scheme: number[] };
  expect(asked).toMatchObject({ action: "baseline" });
  expect(scheme.length).toBe(weights);
  expect(new Set(scheme)).toEqual(new Set([0, 1]));

  model.push("snapshot_state", [kept("small", weights, 3)]);
  await frame();
  await choose("vs small");
  expect(words()).toContain("than small");
  await choose("vs float16");
  expect(words()).toContain("smaller than float16");
  expect(model.get("request")).toMatchObject({ action: "baseline", name: "" });
});
