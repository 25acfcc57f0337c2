/** The bar that edits a selection: kind and groups, repeats of a block, int8 activations, and back. */

import { afterEach, expect, test } from "vitest";
import { synthetic } from "../synthetic";
import { button, cell, click, closeAll, get, mount, type Page, press, row, rows, settled } from "./page";

afterEach(closeAll);

const open = async (): Promise<Page> => {
  const page = mount({}, "explorer", 1500);
  await settled();
  return page;
};
const bar = (el: ParentNode): HTMLElement => get(el, ".tlr-sliders");
const select = (el: ParentNode, name: string): HTMLSelectElement =>
  get<HTMLSelectElement>(bar(el), `select[aria-label^="${name}"]`);
const choose = async (el: ParentNode, name: string, text: string): Promise<void> => {
  const found = select(el, name);
  found.value = [...found.options].find((o) => o.text === text)!.value;
  found.dispatchEvent(new Event("change", { bubbles: true }));
  await settled();
};
const search = async (el: ParentNode, text: string): Promise<void> => {
  const input = get<HTMLInputElement>(el, "input[type=search]");
  input.value = text;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  await settled();
};

test("one projection, then that of all layers, set to a kind of scheme by groups", async () => {
  const { el } = await open();
  await search(el, "query");
  row(el, "encoder_layer_2_attention_self_query").click();
  await settled();
  expect(bar(el).textContent).toContain("1 op");
  button(bar(el), "all 6 repeats of this block").click();
  await settled();
  expect(bar(el).textContent).toContain("6 ops");
  expect(rows(el).filter((r) => r.ariaSelected === "true")).toHaveLength(6);
  expect(bar(el).textContent).not.toContain("repeats");
  expect([...select(el, "Scheme of 6 ops").options].map((o) => o.text)).toEqual([
    "float16",
    "palettize",
    "linear",
  ]);
  expect(select(el, "Groups of 6 ops").disabled).toBe(true);
  const place = get(bar(el), "[role=slider]").getBoundingClientRect();
  await choose(el, "Scheme of 6 ops", "palettize");
  // Nothing moves under a pointer that drags.
  expect(get(bar(el), "[role=slider]").getBoundingClientRect()).toEqual(place);
  await choose(el, "Groups of 6 ops", "16");
  const chosen = rows(el).map(
    (r) => get<HTMLSelectElement>(r, ".tlr-cell-scheme select").selectedOptions[0]!.text,
  );
  expect(new Set(chosen)).toEqual(new Set(["palettize, groups of 16"]));
  button(bar(el), "Reset").click();
  await settled();
  expect(cell(rows(el)[0]!, "bits")).toBe("16");
});

test("groups that the weights cannot have are greyed with the reason", async () => {
  const { el } = mount({ hidden: 392 }, "explorer", 1500);
  await settled();
  await search(el, "embeddings_word");
  rows(el)[0]!.click();
  await settled();
  await choose(el, "Scheme of 1 op", "palettize");
  const [whole, groups] = [...select(el, "Groups of 1 op").options];
  expect([whole!.text, whole!.disabled]).toEqual(["per tensor", false]);
  expect([groups!.text, groups!.disabled]).toEqual(["16", true]);
  expect(groups!.title).toContain("do not divide");
});

test("ops that cannot have int8 activations say why", async () => {
  const { el, model } = await open();
  const toggle = (): HTMLButtonElement => get<HTMLButtonElement>(bar(el), ".is-toggle");
  await search(el, "softmax");
  rows(el)[0]!.click();
  await settled();
  expect(toggle().getAttribute("aria-disabled")).toBe("true");
  expect(toggle().title).toContain("It is a softmax.");
  toggle().click();
  await settled();
  expect(model.edits).toEqual([]);
  await search(el, "layer_0_output_dense");
  rows(el)[0]!.click();
  await settled();
  expect(toggle().getAttribute("aria-disabled")).toBe("false");
  toggle().click();
  await settled();
  expect(toggle().ariaPressed).toBe("true");
});

test("repeats are not offered for what occurs once", async () => {
  const { el } = await open();
  row(el, "embeddings_word_embeddings").click();
  await settled();
  expect(synthetic().ops).toBe(144);
  expect(bar(el).textContent).not.toContain("repeats");
});

test("a control for all weights says that it is not only for the ops that a filter leaves", async () => {
  const { el } = mount();
  await settled();
  const note = (): string => get(bar(el), ".tlr-note").textContent ?? "";
  expect(note()).toBe("");
  await search(el, "query");
  expect(note()).toBe("sets those that are not shown, too");
  button(el, "Select 6 shown").click();
  await settled();
  expect(note()).toBe("");
});

test("Escape leaves no slider in focus that would now set all weights", async () => {
  const { el, model } = mount();
  await settled();
  click(rows(el)[0]!);
  await settled();
  const slider = get(bar(el), "[role=slider]");
  slider.focus();
  press(slider, "ArrowRight");
  await settled();
  const sizes = (): string[] => rows(el).map((each) => cell(each, "size"));
  const before = sizes();
  press(slider, "Escape");
  await settled();
  expect(model.get("selected_ops")).toEqual([]);
  expect(document.activeElement).toBe(bar(el));
  press(document.activeElement!, "ArrowRight");
  await settled();
  expect(sizes()).toEqual(before);
});
