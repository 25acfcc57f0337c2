import { afterEach, expect, test } from "vitest";
import type { FakeModel } from "../fakeModel";
import { offer } from "./answers";
import { all, button, byName, closeAll, frame, get, mount, type Page, press, settled, value } from "./page";

afterEach(closeAll);

const asked = (model: FakeModel): { id: string } & Record<string, unknown> =>
  model.get("request") as { id: string };
const answer = (model: FakeModel, fields: object): void =>
  model.push("response", { id: asked(model).id, action: "optimize", ok: true, message: "", ...fields });
async function open(options: { answered?: boolean } = {}): Promise<Page> {
  const page = mount();
  await settled();
  button(page.el, "Optimize…").click();
  await settled();
  if (options.answered ?? true) {
    answer(page.model, offer(page.model));
    await settled();
  }
  return page;
}

const panel = (el: ParentNode): HTMLElement => byName(el, "dialog", "Best plan");
const slider = (el: ParentNode): HTMLInputElement => get(el, "input[type=range]");

function slide(el: ParentNode, stop: number, release: boolean): void {
  slider(el).value = String(stop);
  slider(el).dispatchEvent(new Event("input", { bubbles: true }));
  if (release) slider(el).dispatchEvent(new Event("change", { bubbles: true }));
}

function type(el: ParentNode, text: string): void {
  const input = get<HTMLInputElement>(el, "input[aria-label=Budget]");
  input.value = text;
  input.dispatchEvent(new InputEvent("input", { bubbles: true }));
}

test("dragging the budget shows plans within the frame, kernel blocked; letting go asks for the best one", async () => {
  const { el, model } = await open();
  const sizes = [value(el, "total-size")];
  for (const stop of [800, 400, 0]) {
    slide(el, stop, false);
    await frame();
    sizes.push(value(el, "total-size"));
  }
  expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
  expect(new Set(sizes).size).toBe(4);
  await frame();
  expect(slider(el).getAttribute("aria-valuetext")).toBe("2 bits a weight");
  slide(el, 400, true);
  const request = asked(model);
  const bits = Math.ceil(2 * 8 ** 0.4 * 100) / 100;
  expect(request).toMatchObject({ action: "optimize", what: "budget", budget: `${bits} bits`, keep: [] });
  // What was dragged goes first, and the plan joins its step.
  expect(new Set(model.edits.map((edit) => edit.gesture))).toEqual(new Set([request.gesture]));
  answer(model, { message: "4.59 bits a weight." });
  await frame();
  expect(panel(el).textContent).toContain("4.59 bits a weight.");
  button(el, "Undo").click();
  await frame();
  expect(value(el, "total-size")).toBe(sizes[0]);
});

test("a budget in words is asked for, and why it cannot be kept is said", async () => {
  const { el, model } = await open();
  expect(button(el, "Find").disabled).toBe(true);
  type(el, " 1 KB ");
  await frame();
  button(el, "Find").click();
  expect(asked(model)).toMatchObject({ what: "budget", budget: "1 KB", gesture: "" });
  answer(model, { ok: false, message: "No plan keeps 1,000 bytes: the least is 2 MB." });
  await frame();
  expect(get(panel(el), "[role=alert]").textContent).toBe("No plan keeps 1,000 bytes: the least is 2 MB.");
  expect(panel(el).textContent, "what the error is worth").toContain(
    "knows nothing about the model's output",
  );
});

test("what is written moves the slider, and the slider writes what it asks for", async () => {
  const { el, model } = await open();
  type(el, "4 bits");
  await frame();
  expect(slider(el).getAttribute("aria-valuetext")).toBe("4 bits a weight");
  expect(Number(slider(el).value)).toBe(Math.round((1000 * Math.log(4 / 2)) / Math.log(16 / 2)));
  expect(value(el, "total-bits"), "it was not asked for yet").toBe(16);
  type(el, "4 MB");
  await frame();
  expect(slider(el).getAttribute("aria-valuetext"), "the plan's own").toBe("16 bits a weight");
  slide(el, 400, true);
  await frame();
  expect(get<HTMLInputElement>(el, "input[aria-label=Budget]").value).toBe(asked(model).budget);
  answer(model, {});
  button(el, "Undo").click();
  await frame();
  expect(slider(el).getAttribute("aria-valuetext")).toBe("16 bits a weight");
});

test("a budget that is asked for before the slider is ready does not cost the slider", async () => {
  const { el, model } = await open({ answered: false });
  const opening = asked(model).id;
  expect(get(el, ".tlr-optimize-slider").textContent).toContain("The kernel is asked what can be reached…");
  type(el, "4 bits");
  await frame();
  button(el, "Find").click();
  model.push("response", { id: opening, action: "optimize", ok: true, message: "", ...offer(model) });
  await frame();
  expect(slider(el).disabled).toBe(false);
  answer(model, { message: "3.99 bits a weight." });
  await frame();
  expect(panel(el).textContent).toContain("3.99 bits a weight.");
});

test.each([900, 1230])(
  "%s px wide, the panel leaves the totals in sight that a drag changes",
  async (width) => {
    const { el } = mount({ errors: true }, "explorer", width);
    await settled();
    button(el, "Optimize…").click();
    await settled();
    const { top, bottom } = panel(el).getBoundingClientRect();
    expect(top).toBeGreaterThanOrEqual(get(el, ".tlr-summary").getBoundingClientRect().bottom);
    expect(bottom).toBeLessThanOrEqual(get(el, ".tlr").getBoundingClientRect().bottom);
  },
);

test("the selection can be kept as it is, which is asked about anew", async () => {
  const { el, model } = await open();
  const keep = get<HTMLInputElement>(panel(el), "input[type=checkbox]");
  expect(keep.disabled).toBe(true);
  model.push("selected_ops", [4, 7]);
  await frame();
  expect(keep.disabled).toBe(false);
  keep.click();
  await settled();
  expect(asked(model)).toMatchObject({ what: "open", keep: [4, 7] });
  answer(model, offer(model));
  type(el, "4 bits");
  await settled();
  button(el, "Find").click();
  expect(asked(model)).toMatchObject({ what: "budget", budget: "4 bits", keep: [4, 7] });
});

test("presets are taken with their source beside them", async () => {
  const { el, model } = await open();
  const select = get<HTMLSelectElement>(el, "select[aria-label=Preset]");
  select.value = "AFM";
  select.dispatchEvent(new Event("change", { bubbles: true }));
  await frame();
  expect(get<HTMLAnchorElement>(panel(el), "a").href).toBe("https://example.org/");
  button(el, "Take").click();
  expect(asked(model)).toMatchObject({ what: "preset", name: "AFM" });
});

test("what takes long says how far it is and can be called off; Escape closes and gives the focus back", async () => {
  const { el, model } = await open({ answered: false });
  expect(slider(el).disabled).toBe(true);
  model.push("progress", { id: asked(model).id, stage: "Looking at the weights", done: 0.1 });
  await expect.poll(() => panel(el).textContent, { timeout: 5000 }).toContain("Looking at the weights");
  button(el, "Cancel").click();
  answer(model, offer(model));
  await settled();
  expect(slider(el).disabled, "an answer that was called off is ignored").toBe(true);
  press(panel(el), "Escape");
  await frame();
  expect(all(el, "[role=dialog]")).toEqual([]);
  expect(document.activeElement).toBe(button(el, "Optimize…"));
});

const refining = (fields: object): object => ({
  unavailable: "",
  running: false,
  stage: "",
  done: 0,
  ok: true,
  message: "",
  ...fields,
});
const refine = (el: ParentNode): HTMLElement => get(el, "[aria-label='Refine by measuring']");

test("a plan is refined in the background: how far it is stays in sight, and it can be called off", async () => {
  const { el, model } = await open();
  button(refine(el), "Refine").click();
  expect(asked(model)).toMatchObject({ action: "refine", what: "start", keep: [] });
  await frame();
  const bar = (): HTMLElement => byName(refine(el), "progressbar", "Refining");
  expect(bar().ariaValueText).toBe("waiting for the kernel");
  model.push(
    "refine_state",
    refining({ running: true, stage: "Round 1 of 4 at most, 00:40 left", done: 0.25 }),
  );
  answer(model, { action: "refine" });
  await frame();
  expect(bar().ariaValueNow).toBe("25");
  expect(refine(el).textContent).toContain("Round 1 of 4 at most, 00:40 left");

  // Closed and opened again, as after a reload, it is still there.
  press(panel(el), "Escape");
  await frame();
  expect(get(el, ".tlr-optimize-mark").style.transform).toBe("scaleX(0.25)");
  button(el, "Optimize…").click();
  await settled();
  button(refine(el), "Cancel").click();
  expect(asked(model)).toMatchObject({ action: "refine", what: "cancel" });
  model.push("refine_state", refining({ message: "Called off." }));
  await frame();
  expect(all(refine(el), "[role=progressbar]")).toEqual([]);
  expect(get(refine(el), "[role=status]").textContent).toBe("Called off.");
  expect(all(el, ".tlr-optimize-mark")).toEqual([]);
});

test("why nothing can be refined, and what went wrong, is said", async () => {
  const { el, model } = await open();
  model.push("refine_state", refining({ unavailable: "session.error = tnb.sensitivity(model, data)" }));
  await frame();
  expect(button(refine(el), "Refine").disabled).toBe(true);
  expect(refine(el).textContent).toContain("session.error = tnb.sensitivity(model, data)");
  model.push("refine_state", refining({ ok: false, message: "Net does not run on item 0." }));
  await frame();
  expect(get(refine(el), "[role=alert]").textContent).toBe("Net does not run on item 0.");
  model.push("selected_ops", [4, 7]);
  await frame();
  get<HTMLInputElement>(panel(el), "input[type=checkbox]").click();
  await settled();
  answer(model, offer(model));
  await settled();
  button(refine(el), "Refine").click();
  expect(asked(model)).toMatchObject({ what: "start", keep: [4, 7] });
});
