/** The totals: budgets that are set and held, the error with its grade, and the compute unit that is priced. */

import { afterEach, expect, test, vi } from "vitest";
import { synthetic, view } from "../synthetic";
import { all, button, byName, closeAll, drag, get, mount, point, press, settled, stopAt } from "./page";

afterEach(closeAll);

const figure = (el: ParentNode, name: string): HTMLElement =>
  all(el, ".tlr-figure").find((f) => get(f, ".tlr-figure-name").textContent?.startsWith(name))!;
const below = (el: ParentNode, name: string): string =>
  get(figure(el, name), ".tlr-figure-below").textContent ?? "";
const type = async (el: ParentNode, text: string): Promise<void> => {
  const field = get<HTMLInputElement>(el, ".tlr-budget-field");
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  press(field, "Enter");
  await settled();
};

test("a budget is set by writing it, shown as the share that is used, and taken away", async () => {
  const { el, model } = mount({}, "explorer", 1500);
  await settled();
  const places = (): number[] => all(el, ".tlr-figure").map((f) => f.getBoundingClientRect().right);
  const before = places();
  button(el, "set a budget").click();
  await settled();
  expect(document.activeElement).toBe(get(el, ".tlr-budget-field"));
  await type(el, "4 apples");
  expect(get(el, ".tlr-budget-field").getAttribute("aria-invalid")).toBe("true");
  expect(get(figure(el, "Size"), "[role=alert]").textContent).toContain("Write a number and a unit");
  expect(places(), "nothing moves for it").toEqual(before);
  await type(el, "20 MB");
  expect(model.get("budget_state")).toEqual({ size: 20e6 });
  expect(below(el, "Size")).toMatch(/^126\u202f% over the 20\u202fMB budget$/);
  expect(get(figure(el, "Size"), ".tlr-meter").classList.contains("is-over")).toBe(true);
  button(el, below(el, "Size")).click();
  await settled();
  await type(el, "100 MB");
  expect(below(el, "Size")).toBe("45\u202f% of 100\u202fMB budget");
  button(el, below(el, "Size")).click();
  await settled();
  await type(el, "");
  expect(model.get("budget_state")).toEqual({});
  expect(below(el, "Size")).toContain("set a budget");
});

test("a budget of anything can be written, and Python can set them", async () => {
  const { el, model } = mount();
  await settled();
  button(el, "set a budget").click();
  await settled();
  await type(el, "5 ms");
  expect(below(el, "Latency")).toMatch(
    /^\d+\u202f% of 5\u202fms budget[\d.]+ – [\d.]+\u202fms \(80\u202f%\)$/,
  );
  expect(below(el, "Size")).toContain("set a budget");
  model.push("budget_state", { bits: 8 });
  await settled();
  expect(below(el, "Latency")).toContain("80\u202f%");
  expect(below(el, "Bits")).toBe("100\u202f% over the 8\u202fbits budget");
});

test("the error is that of the weights, then what is estimated of outputs, then what was measured", async () => {
  const { el, model } = mount({ errors: true });
  await settled();
  const error = (): string => figure(el, "Error").textContent ?? "";
  expect(error()).toContain("of the weights");
  const { weights } = synthetic();
  const schemes = (model.get("costs") as { schemes: unknown[] }).schemes.length;
  const errors = new Float64Array(weights * schemes);
  for (let w = 0; w < weights; w++) errors.fill(0.001, w * schemes + 1, (w + 1) * schemes);
  model.push("error_state", {
    grade: "estimated",
    what: "kl of the outputs",
    metric: "kl",
    error: view(errors),
  });
  await settled();
  expect(error()).toContain("estimated");
  expect(error()).toContain("KL 0");
  drag(byName(el, "slider", "Bits of embeddings_word_embeddings"), 3);
  await settled();
  expect(error()).toContain("KL ≈0.00100");
  const scheme = new Uint16Array(weights);
  const last = (model.get("plan_state") as { scheme: DataView }).scheme;
  new Uint8Array(scheme.buffer).set(new Uint8Array(last.buffer, last.byteOffset, last.byteLength));
  const measured = {
    metric: "kl",
    value: 0.0009,
    values: { all: 0.0009 },
    int8_ops: view(new Int32Array(0)),
  };
  model.push("evaluation_state", [{ ...measured, scheme: view(scheme) }]);
  await settled();
  expect(error()).toContain("•\u202f0.000900 of another plan");
  button(el, "Undo").click();
  await settled();
  expect(error()).toContain("measured");
  expect(error()).toContain("•\u202fKL 0.000900");
});

test("the error of the plan stands beside that of the baseline, in one measure and with its grade", async () => {
  const { el, model } = mount({ errors: true });
  const { weights } = synthetic();
  const schemes = (model.get("costs") as { schemes: unknown[] }).schemes.length;
  const errors = new Float64Array(weights * schemes);
  for (let w = 0; w < weights; w++) errors.fill(0.001, w * schemes + 1, (w + 1) * schemes);
  const estimate = { grade: "estimated", what: "kl of the outputs", metric: "kl", error: view(errors) };
  const kept = new Uint16Array(weights);
  kept[0] = kept[1] = kept[2] = kept[3] = 1;
  model.push("error_state", estimate);
  model.push("baseline_state", { name: "small", scheme: view(kept), int8: view(new Uint8Array(0)) });
  await settled();
  const error = (): HTMLElement => figure(el, "Error");
  expect(error().textContent).toContain("KL ≈0.00400 → 0");
  drag(byName(el, "slider", "Bits of embeddings_word_embeddings"), 3);
  await settled();
  expect(error().textContent).toContain("KL ≈0.00400 → 0.00100");
  expect(get(error(), ".tlr-change").textContent).toBe("−75\u202f%");
  expect(get(error(), ".tlr-sr").textContent).toBe("error 0.00100, estimated, 75\u202f% less than small");

  const edit = (await vi.waitUntil(() => model.edits.length > 0 && model.edits)).at(-1);
  const now = new Uint16Array(weights);
  edit!.weights.forEach((weight, i) => {
    now[weight] = edit!.schemes[i]!;
  });
  const scheme = view(now);
  const measured = { values: {}, int8_ops: view(new Int32Array(0)) };
  const of = (plan: unknown, metric: string, value: number, is_loss = true): object => ({
    ...measured,
    scheme: plan,
    metric,
    value,
    is_loss,
  });
  model.push("evaluation_state", [of(scheme, "kl", 0.003), of(view(kept), "mse", 0.002)]);
  await settled();
  expect(error().textContent, "measures differ").toContain("•\u202fKL 0.00300");
  expect(get(error(), ".tlr-change").textContent).toBe("");
  model.push("evaluation_state", [of(scheme, "kl", 0.003), of(view(kept), "kl", 0.002)]);
  await settled();
  expect(error().textContent).toContain("•\u202fKL 0.00200 → 0.00300");
  expect(get(error(), ".tlr-change").className).toContain("is-worse");
  expect(get(error(), ".tlr-sr").textContent).toBe("kl 0.00300, measured, 50\u202f% more than small");
  model.push("evaluation_state", [of(scheme, "words", 0.9, false), of(view(kept), "words", 0.6, false)]);
  await settled();
  expect(error().textContent, "which is better is not known").toContain("•\u202fwords 0.600 → 0.900");
  expect(get(error(), ".tlr-change").textContent).toBe("");
});

test("the error is what Python composed of this very plan, and follows that while the plan is another", async () => {
  const { el, model } = mount({ errors: true });
  const { weights } = synthetic();
  const schemes = (model.get("costs") as { schemes: unknown[] }).schemes.length;
  const errors = new Float64Array(weights * schemes);
  for (let w = 0; w < weights; w++) errors.fill(0.001, w * schemes + 1, (w + 1) * schemes);
  const composed = (revision: number, ...plans: [Uint16Array, number][]): object => ({
    revision,
    plans: plans.map(([scheme, loss]) => ({ scheme: view(scheme), loss })),
  });
  const of = { grade: "estimated", what: "kl of the outputs", metric: "kl", error: view(errors) };
  model.push("error_state", { ...of, revision: 1, composes: true, anchors: [] });
  await settled();
  const error = (): HTMLElement => figure(el, "Error");
  drag(byName(el, "slider", "Bits of embeddings_word_embeddings"), 3);
  await settled();
  expect(error().textContent).toContain("KL ≈0.00100");
  expect(error().title).toContain("once edits rest");

  const edit = (await vi.waitUntil(() => model.edits.length > 0 && model.edits)).at(-1)!;
  const one = new Uint16Array(weights);
  one[edit.weights[0]!] = edit.schemes[0]!;
  model.push("loss_state", composed(1, [one, 0.0016]));
  await settled();
  expect(error().textContent).toContain("KL ≈0.00160");
  expect(error().textContent).toContain("estimated");
  expect(error().title).toContain("for this very plan");
  expect(error().title, "what Optimize makes least").toContain("≈0.00100");

  const two = one.slice();
  two[weights - 1] = 1;
  model.push("baseline_state", { name: "both", scheme: view(two), int8: view(new Uint8Array(0)) });
  await settled();
  expect(error().textContent, "what it is compared with follows").toContain("KL ≈0.00320 → 0.00160");

  model.push("loss_state", composed(1, [one, 0.0016], [two, 0.004]));
  await settled();
  expect(error().textContent).toContain("KL ≈0.00400 → 0.00160");
  model.push("loss_state", composed(0, [two, 0.007]));
  await settled();
  expect(error().textContent, "of other errors").toContain("KL ≈0.00200 → 0.00100");
});

test("the time of the model and that of its ops, which is less, say what the other leaves out", async () => {
  const { el } = mount();
  await settled();
  const dispatch = /[\d.]+ ms to dispatch/.exec(figure(el, "Latency").title)?.[0];
  expect(dispatch).toBeDefined();
  expect(get(el, ".tlr-total .tlr-cell-latency").title).toContain(dispatch!);
});

test("the compute unit is chosen in people's words, and what cannot be priced is greyed", async () => {
  const { el, model } = mount();
  await settled();
  const select = get<HTMLSelectElement>(el, "select[aria-label='Compute unit']");
  expect([...select.options].map((o) => o.text)).toEqual(["all units", "Neural Engine", "GPU", "CPU only"]);
  expect([...select.options].filter((o) => o.disabled).map((o) => o.text)).toEqual(["GPU"]);
  select.value = "cpuOnly";
  select.dispatchEvent(new Event("change", { bubbles: true }));
  await settled();
  expect(model.get("compute_unit")).toBe("cpuOnly");
  expect(below(el, "Latency")).toContain("waiting for the kernel");
  model.push("costs", { ...synthetic().costs, compute_unit: "cpuOnly" });
  await settled();
  expect(below(el, "Latency")).not.toContain("waiting");
  expect(figure(el, "Latency").title).toContain("CPU only");
});

test("totals follow every step of a drag; titles, menus and what is only heard wait for its end", async () => {
  const { el } = mount();
  await settled();
  const slider = byName(el, "slider", "Bits of all weights");
  const shown = (): string[] => [
    get(el, "[data-testid=total-size]").textContent!,
    get(el, "[data-testid=total-bits]").textContent!,
    get(el, ".tlr-total .tlr-cell-size").textContent!,
    get<HTMLElement>(el, ".tlr-meter").style.backgroundSize,
  ];
  const words = (): string => get(figure(el, "Size"), ".tlr-sr").textContent!;
  const undo = button(el, "Undo");
  const steps = (): number => all(el, "[aria-label='Compare with'] optgroup[label=Steps] option").length;
  const seen: string[][] = [shown()];
  point(slider, "pointerdown", stopAt(slider, 0));
  for (const stop of [1, 2, 3]) {
    point(slider, "pointermove", stopAt(slider, stop));
    await settled();
    for (const [i, text] of shown().entries()) expect(text).not.toBe(seen.at(-1)![i]);
    seen.push(shown());
    expect(undo.disabled).toBe(false);
    expect(undo.title).toBe("Nothing to undo");
    expect(steps()).toBe(0);
  }
  point(slider, "pointerup", stopAt(slider, 3));
  await settled();
  expect(shown()).toEqual(seen.at(-1));
  expect(undo.title).toContain("Undo all weights");
  expect(steps()).toBe(2);
  const after = seen.at(-1)![0]!.split(" ").at(-1)!;
  expect(words()).toMatch(new RegExp(`^${after}, .* smaller than float16$`));
});
