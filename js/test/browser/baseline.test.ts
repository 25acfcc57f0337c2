import { afterEach, expect, test } from "vitest";
import { cell, closeAll, frame, get, mount, rows, settled, value } from "./page";

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
