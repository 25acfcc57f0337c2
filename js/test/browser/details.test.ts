/** The Details panel: numbers at once, values and source when Python answers. */

import { afterEach, expect, test } from "vitest";
import { decodePlan, type Wire } from "../../src/protocol";
import type { FakeModel } from "../fakeModel";
import { levels, OP, WEIGHT } from "./answers";
import { EVIL, LONG } from "./evil";
import {
  all,
  button,
  byName,
  click,
  closeAll,
  drag,
  get,
  mount,
  point,
  press,
  row,
  rows,
  settled,
} from "./page";

afterEach(closeAll);

const LINEAR = "encoder_layer_0_attention_self_query";

/** Everything that was asked and has no answer yet, oldest first. */
const asked = (model: FakeModel): Wire[] => {
  const request = (model.get("request") ?? {}) as Wire & { earlier?: Wire[] };
  return [...(request.earlier ?? []), request].filter(
    (r) => r.action === "details" && !done.has(String(r.id)),
  );
};
const done = new Set<string>();

function answer(model: FakeModel, what: string, fields: Wire): void {
  const request = asked(model).find((r) => r.what === what);
  if (!request) throw new Error(`nobody asked for ${what}`);
  done.add(String(request.id));
  model.push("response", { id: request.id, action: "details", ok: true, ...fields });
}

async function answerAll(model: FakeModel, lines = 4): Promise<void> {
  for (const [what, fields] of [
    ["op", OP],
    ["weight", WEIGHT],
    ["levels", levels(lines)],
  ] as const)
    answer(model, what, fields);
  await settled();
}

const panel = (el: HTMLElement): HTMLElement => get(el, "section[aria-label=Details]");
const lines = (el: HTMLElement): SVGPathElement =>
  panel(el).querySelector<SVGPathElement>(".tlr-values-lines")!;
const countLines = (el: HTMLElement): number => (lines(el).getAttribute("d")!.match(/M/g) ?? []).length;
const cells = (el: HTMLElement): (string | null)[] =>
  all(panel(el), "tbody tr > *").map((td) => td.textContent);

test("while nothing is selected, the slowest and the largest ops are a press away, and follow the plan", async () => {
  const { el, model } = mount();
  await settled();
  const lists = (): HTMLElement[] => all(panel(el), ".tlr-largest");
  const said = (list: number): string[] =>
    all(lists()[list]!, "button").map((each) => each.textContent ?? "");
  expect(lists().map((list) => get(list, "h4").textContent)).toEqual(["slowest ops", "largest ops"]);
  expect(said(0).length).toBe(5);
  for (const line of said(0)) expect(line).toMatch(/≈[\d.]+\u202fms · <?\u202f?\d+\u202f%$/);
  const largest = rows(el)[0]!;
  expect(said(1)[0]).toContain(get(largest, ".tlr-cell-name").textContent!);
  const before = said(1);
  drag(byName(el, "slider", "Bits of all weights"), 2);
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(said(1)).not.toEqual(before);
  click(all(lists()[1]!, "button")[0]!);
  await settled();
  expect(model.get("selected_ops")).toEqual([Number(largest.dataset.op)]);
});

test("nothing selected says what to do; an op shows its numbers at once and the rest when Python answers", async () => {
  const { el, model } = mount();
  await settled();
  expect(panel(el).textContent).toContain("Select an op");
  for (const fact of [
    "36 linear, ",
    "≈144 Neural Engine",
    "22.6\u202fM values in 100 tensors",
    "2.87\u202fGFLOPs",
  ])
    expect(panel(el).textContent).toContain(fact);
  expect(asked(model)).toEqual([]);
  row(el, LINEAR).click();
  await settled();
  expect(get(panel(el), "header").textContent).toContain(LINEAR);
  expect(panel(el).textContent).toContain("waiting for the kernel");
  expect(cells(el).slice(1, 6)).toEqual(["float16", "294\u202f912", "…", "16", "–"]);
  const op = Number(row(el, LINEAR).dataset.op);
  expect(new Set(asked(model).map((r) => r.what))).toEqual(new Set(["op", "weight", "levels"]));
  expect(asked(model).find((r) => r.what === "op")).toMatchObject({ op });

  await answerAll(model);
  expect(panel(el).textContent).not.toContain("waiting for the kernel");
  expect(countLines(el)).toBe(4);
  expect(get(panel(el), "[role=img]").ariaLabel).toMatch(
    /^82 values of .* from −0\.500 to 1\.00, mean 0\.0100/,
  );
  const first = get(panel(el), "summary");
  expect(first.textContent).toBe("modeling.py:12return self.query(x)");
  first.click();
  await settled();
  const here = get(panel(el), "[aria-current=true]");
  expect(here.textContent).toBe("12    return self.query(x)");
  const places = all(panel(el), "summary");
  expect(places.map((s) => s.title)).toEqual(OP.frames.map((f) => `${f.file}:${f.line}`));
  expect(places[0]!.textContent).toContain("modeling.py:12");
  expect(cells(el)[3]).toBe("100");
  for (const fact of ["1×128×384 fp16", "FLOPs", "launch", "compute", "activations", "Neural Engine"])
    expect(panel(el).textContent).toContain(fact);

  answer(model, "weight", WEIGHT);
  await settled();

  // Known already: coming back asks for nothing.
  const request = model.get("request");
  press(get(el, ".tlr"), "Escape");
  await settled();
  row(el, LINEAR).click();
  await settled();
  expect(model.get("request")).toBe(request);
  expect(countLines(el)).toBe(4);
});

test("what is looked for first is seen without scrolling, and no line of code is cut", async () => {
  const { el, model } = mount({ errors: true });
  await settled();
  row(el, LINEAR).click();
  await settled();
  answer(model, "op", { ...OP, frames: [{ ...OP.frames[0], lines: [LONG], first: OP.frames[0]!.line }] });
  answer(model, "weight", WEIGHT);
  answer(model, "levels", levels(4));
  await settled();
  const key = get(panel(el), "[aria-label='Key numbers']");
  expect(all(key, "dt").map((dt) => dt.textContent)).toEqual([
    "size",
    "error",
    "latency",
    "bound by",
    "shape",
  ]);
  expect(key.textContent).toContain("296\u202fKB");
  const bottom = get(panel(el), ".tlr-details-body").getBoundingClientRect().bottom;
  for (const part of [key, get(panel(el), ".tlr-values")])
    expect(part.getBoundingClientRect().bottom).toBeLessThanOrEqual(bottom);
  const code = get(panel(el), "summary code");
  expect(code.textContent).toBe(LONG);
  expect(code.scrollWidth).toBeLessThanOrEqual(code.clientWidth + 1);
  expect(code.getBoundingClientRect().height).toBeGreaterThan(20);
});

test("a drag moves the numbers at once and stays one step; the lines are greyed until the last stop's come", async () => {
  const { el, model } = mount({ errors: true });
  await settled();
  row(el, LINEAR).click();
  await settled();
  await answerAll(model);
  answer(model, "weight", WEIGHT);
  await settled();
  const thumb = get(row(el, LINEAR), "[role=slider]");
  drag(thumb, 3);
  await settled();
  const bits = Number(thumb.ariaValueText!.split(" ")[0]);
  expect(bits).toBeLessThan(16);
  expect(cells(el)[2]).not.toBe("294\u202f912");
  expect(cells(el)[5]).toContain("≈");
  const key = get(panel(el), "[aria-label='Key numbers']");
  await expect.poll(() => key.textContent).toMatch(/size296 → .*error≈.*latency≈\S+ → /);
  expect(lines(el).classList).toContain("is-stale");
  expect(panel(el).textContent).toContain(`${bits} bits: waiting for the kernel`);
  // One question at a time, however many stops were passed.
  expect(asked(model)).toHaveLength(1);
  answer(model, "levels", levels(8));
  await settled();
  const last = asked(model);
  if (last.length > 0) answer(model, "levels", levels(2 ** bits));
  await settled();
  expect(asked(model)).toEqual([]);
  expect(lines(el).classList).not.toContain("is-stale");
  model.answer();
  await settled();
  expect(decodePlan(model.get("plan_state")).history).toHaveLength(1);
});

test("several ops are added up", async () => {
  const { el } = mount();
  await settled();
  const [a, b] = rows(el).filter((r) => r.querySelector("[role=slider]"));
  const exact = (text: string | null): number => Number(text!.replaceAll("\u202f", ""));
  const bytesOf = async (r: HTMLElement): Promise<number> => {
    r.click();
    await settled();
    return all(panel(el), "tbody tr").reduce((sum, tr) => sum + exact(all(tr, "td")[1]!.textContent), 0);
  };
  const bytes = (await bytesOf(b!)) + (await bytesOf(a!));
  b!.dispatchEvent(new MouseEvent("click", { bubbles: true, ctrlKey: true }));
  await settled();
  expect(get(panel(el), "header").textContent).toContain("2 ops");
  expect(exact(get(panel(el), ".tlr-fact").title.match(/^([\d\u202f]+) bytes, exact/)![1]!)).toBe(bytes);
  expect(panel(el).textContent).toContain("op types");
});

test("what Python cannot say is said in its words", async () => {
  const { el, model } = mount();
  await settled();
  row(el, LINEAR).click();
  await settled();
  answer(model, "levels", { ok: false, message: "The weight holds infinite values." });
  answer(model, "weight", WEIGHT);
  answer(model, "op", { ok: false, message: "This failed." });
  await settled();
  expect(panel(el).textContent).toContain("The weight holds infinite values.");
  expect(panel(el).textContent).toContain("This failed.");
  expect(lines(el).getAttribute("d")).toBe("");
});

test("code and paths that are HTML are text, and the panel gets no wider", async () => {
  const { el, model } = mount({}, "explorer", 920);
  await settled();
  rows(el)[0]!.click();
  await settled();
  answer(model, "op", {
    ...OP,
    fused: [EVIL],
    int8: EVIL,
    frames: [
      {
        file: `/tmp/${EVIL}${LONG}.py`,
        line: 2,
        function: EVIL,
        lines: [EVIL, `  ${EVIL}${LONG}`],
        first: 1,
      },
    ],
  });
  answer(model, "weight", { ...WEIGHT, parameter: EVIL });
  answer(model, "levels", { ...levels(4), groups: 2, place: EVIL });
  await settled();
  expect(el.querySelector("img, script")).toBeNull();
  expect((window as unknown as { hacked?: number }).hacked).toBeUndefined();
  expect(get(panel(el), "[aria-current=true]").textContent).toContain("<script>");
  const width = panel(el).getBoundingClientRect().right;
  for (const part of all(panel(el), "section, figure, summary, dl, table"))
    expect(part.getBoundingClientRect().right).toBeLessThanOrEqual(width);
  expect(get(panel(el), ".tlr-details-body").scrollWidth).toBeLessThanOrEqual(width);
});

test("the panel folds, and its height is dragged or moved by keys; the graph keeps room", async () => {
  const { el } = mount();
  await settled();
  const height = (): number => panel(el).getBoundingClientRect().height;
  const before = height();
  const edge = byName(el, "separator", "Height of the details");
  press(edge, "ArrowUp");
  await settled();
  expect(height()).toBeCloseTo(before + 24, 0);
  const at = edge.getBoundingClientRect();
  point(edge, "pointerdown", { x: at.left + 5, y: at.top });
  point(edge, "pointermove", { x: at.left + 5, y: at.top - 2000 });
  edge.dispatchEvent(new PointerEvent("lostpointercapture"));
  await settled();
  expect(get(el, ".tlr-canvas").getBoundingClientRect().height).toBeGreaterThan(40);
  button(el, "Hide details").click();
  await settled();
  expect(height()).toBeLessThan(40);
  button(el, "Show details").click();
  await settled();
  expect(height()).toBeGreaterThan(before);
});

test("as a view of its own it follows the selection", async () => {
  const { el, model } = mount({}, "details");
  await settled();
  model.push("selected_ops", [0]);
  await settled();
  expect(get(el, "header strong").textContent).toBe("embeddings_word_embeddings");
  expect(el.querySelector("[aria-expanded]")).toBeNull();
});
