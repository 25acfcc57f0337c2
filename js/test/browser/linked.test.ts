/** One selection and one hover for all views; the table's own behaviour; the graph as a tree. */

import { afterEach, describe, expect, test } from "vitest";
import { synthetic } from "../synthetic";
import {
  button,
  cell,
  click,
  closeAll,
  drag,
  frame,
  get,
  item,
  mount,
  mountOpen,
  paint,
  point,
  press,
  pressBox,
  row,
  rows,
  settled,
  toggleBox,
} from "./page";

afterEach(closeAll);

const selectedRows = (el: ParentNode): string[] =>
  rows(el)
    .filter((r) => r.ariaSelected === "true")
    .map((r) => cell(r, "name"));
const search = (el: ParentNode, text: string): void => {
  const input = get<HTMLInputElement>(el, "input[type=search]");
  input.value = text;
  input.dispatchEvent(new Event("input", { bubbles: true }));
};
const names = (el: ParentNode): string[] => rows(el).map((r) => cell(r, "name"));
const header = (el: ParentNode, key: string): HTMLElement => get(el, `[role=columnheader].tlr-cell-${key}`);

describe("selection", () => {
  test("a box selected in the graph selects its ops and brings them into view in the table", async () => {
    const { el, model } = mount({ ops: 600 });
    await settled();
    expect(names(el)).not.toContain("embeddings_LayerNorm");
    pressBox(el, item(el, "embeddings,"));
    await settled();
    expect(selectedRows(el).length).toBeGreaterThan(0);
    const ops = model.get("selected_ops") as number[];
    expect(ops).toEqual([0, 1, 2, 3]);
    search(el, "embeddings_LayerNorm");
    await settled();
    search(el, "");
    await settled();
    click(item(el, "pool,"));
    pressBox(el, item(el, "pool,"));
    await settled();
    // pool's ops have no weights and so stand at the very end of the table.
    const grid = get(el, "[role=grid]");
    expect(grid.scrollTop).toBeGreaterThan(1000);
    expect(selectedRows(el).some((name) => name.startsWith("pool_"))).toBe(true);
  });

  test("a row selected in the table marks its box in the graph, collapsed as it is", async () => {
    const { el } = await mountOpen();
    const box = item(el, "encoder.layer.3,");
    const edge = (): string => {
      const canvas = get<HTMLCanvasElement>(el, "[data-testid=graph-canvas]");
      const at = canvas.getBoundingClientRect();
      const b = box.getBoundingClientRect();
      const image = canvas
        .getContext("2d")!
        .getImageData(b.left - at.left - 2, b.top - at.top - 2, b.width + 4, 4);
      return image.data.join();
    };
    const plain = edge();
    row(el, "encoder_layer_3_output_dense").click();
    await settled();
    expect(edge()).not.toBe(plain);
    expect(item(el, "encoder.layer.3,").ariaLabel).toContain("partly selected");
    press(get(el, "[role=grid]"), "Escape");
    await settled();
    expect(edge()).toBe(plain);
  });

  test("click, shift-range, ctrl-toggle, select all shown, Escape", async () => {
    const { el, model } = mount();
    await settled();
    const list = names(el);
    row(el, list[1]!).click();
    click(row(el, list[4]!), { shiftKey: true });
    await frame();
    expect(selectedRows(el)).toEqual(list.slice(1, 5));
    click(row(el, list[2]!), { ctrlKey: true });
    click(row(el, list[7]!), { metaKey: true });
    await frame();
    expect(selectedRows(el)).toEqual([list[1], list[3], list[4], list[7]]);
    search(el, "query");
    await settled();
    button(el, "Select 6 shown").click();
    await frame();
    expect((model.get("selected_ops") as number[]).length).toBe(6);
    press(get(el, "[role=grid]"), "Escape");
    await frame();
    expect(model.get("selected_ops")).toEqual([]);
  });

  test("Python's selection shows and scrolls; what it already says is not written back", async () => {
    const { el, model } = mount({ ops: 600 });
    await settled();
    const chosen = [597];
    model.push("selected_ops", chosen);
    await settled();
    expect(selectedRows(el).length).toBe(1);
    expect(model.get("selected_ops")).toBe(chosen);
  });

  test("by keys: down, shift-down, space", async () => {
    const { el } = mount();
    await settled();
    const list = names(el);
    const grid = get(el, "[role=grid]");
    press(grid, "Enter");
    press(grid, "ArrowDown", { shiftKey: true });
    await frame();
    press(grid, "ArrowDown", { shiftKey: true });
    await frame();
    expect(selectedRows(el)).toEqual(list.slice(0, 3));
    expect(grid.getAttribute("aria-activedescendant")).toBe(row(el, list[2]!).id);
  });
});

test("hover is one for both: a row lights its box, a box its rows", async () => {
  const { el } = await mountOpen();
  const box = item(el, "encoder.layer.1,");
  const canvas = get<HTMLCanvasElement>(el, "[data-testid=graph-canvas]");
  const picture = (): string => canvas.toDataURL();
  const plain = picture();
  row(el, "encoder_layer_1_output_dense").dispatchEvent(new PointerEvent("pointerenter"));
  await frame();
  expect(picture()).not.toBe(plain);
  const b = box.getBoundingClientRect();
  point(canvas, "pointermove", { x: b.left + b.width / 2, y: b.top + b.height / 2 });
  await frame();
  const lit = rows(el).filter((r) => r.classList.contains("is-hovered"));
  expect(lit.length).toBeGreaterThan(1);
  expect(lit.every((r) => cell(r, "name").includes("layer_1_"))).toBe(true);
});

describe("the table", () => {
  test("opens with the largest weights first; a header sorts and turns; shift adds a second key", async () => {
    const { el } = mount({}, "explorer", 1800);
    await settled();
    expect(names(el)[0]).toBe("embeddings_word_embeddings");
    expect(header(el, "size").ariaSort).toBe("descending");
    get(header(el, "name"), "button").click();
    await settled();
    expect(header(el, "name").ariaSort).toBe("ascending");
    expect(names(el)).toEqual([...names(el)].sort());
    get(header(el, "op_type"), "button").click();
    await settled();
    get(header(el, "size"), "button").dispatchEvent(
      new MouseEvent("click", { bubbles: true, shiftKey: true }),
    );
    await settled();
    const linear = rows(el).filter((r) => cell(r, "op_type") === "gather");
    expect(linear.map((r) => cell(r, "name"))).toEqual([
      "embeddings_word_embeddings",
      "embeddings_position_embeddings",
    ]);
    expect(header(el, "op_type").ariaSort).toBe("ascending");
    expect(header(el, "size").ariaSort).toBe("descending");
  });

  test("the error of weights has a column once it is known: before and after, the worst first", async () => {
    const { el, model } = mount({}, "table", 1500);
    await settled();
    expect(el.querySelector(".tlr-cell-error")).toBeNull();
    model.push("costs", synthetic({ errors: true }).costs);
    await settled();
    const dense = "encoder_layer_0_intermediate_dense";
    expect(cell(row(el, dense), "error")).toBe("none");
    drag(get(row(el, dense), "[role=slider]"), 3);
    await settled();
    // 4 bits: 6.02 dB a bit; the bias stays as it is.
    expect(cell(row(el, dense), "error")).toBe("none → ≈24.1\u202fdB");
    const error = get(row(el, dense), ".tlr-cell-error");
    point(error, "pointerenter", { x: 0, y: 0 });
    expect(error.title).toContain("not the model's output");
    drag(get(row(el, "embeddings_word_embeddings"), "[role=slider]"), 5);
    await settled();
    get(header(el, "error"), "button").click();
    await settled();
    expect(header(el, "error").ariaSort).toBe("ascending");
    expect(names(el).slice(0, 2)).toEqual(["embeddings_word_embeddings", dense]);
    expect(get(el, ".tlr-total .tlr-cell-error").textContent).toMatch(/^≈1\d\.\d\u202fdB$/);
  });

  test("search looks at name, type, module and source, all words must match, and totals follow", async () => {
    const { el } = mount({}, "explorer", 1800);
    await settled();
    search(el, "softmax layer.2");
    await settled();
    expect(rows(el).map((r) => cell(r, "op_type"))).toEqual(["softmax"]);
    expect(get(el, ".tlr-counts").textContent).toContain("1 of 144 shown");
    search(el, "no such thing");
    await settled();
    expect(rows(el).length).toBe(0);
    expect(get(el, ".tlr-empty").textContent).toContain("No op matches");
  });

  test("100,000 ops have a screenful of rows, and the last one can be reached", async () => {
    const { el } = mount({ ops: 100_000, hidden: 64, vocabulary: 1000 }, "table");
    await settled();
    expect(rows(el).length).toBeLessThan(60);
    press(get(el, "[role=grid]"), "End");
    await settled();
    const total = Number(get(el, "[role=grid]").getAttribute("aria-rowcount")) - 2;
    expect(total).toBeGreaterThan(99_000);
    const last = rows(el).at(-1)!;
    expect(Number(last.ariaRowIndex)).toBe(total + 1);
    const [r, g] = [last.getBoundingClientRect(), get(el, "[role=grid]").getBoundingClientRect()];
    expect(r.bottom).toBeLessThanOrEqual(g.bottom + 1);
    expect(r.top).toBeGreaterThan(g.top);
  });
});

describe("the graph", () => {
  test("expands and collapses in place by double-click and by its corner", async () => {
    const { el } = await mountOpen();
    const count = el.querySelectorAll("[role=treeitem]").length;
    const box = item(el, "encoder.layer.0,");
    const at = box.getBoundingClientRect();
    const canvas = get(el, "[data-testid=graph-canvas]");
    await toggleBox(el, box);
    const opened = item(el, "encoder.layer.0,");
    expect(opened.ariaExpanded).toBe("true");
    expect(el.querySelectorAll("[role=treeitem]").length).toBe(count + 3);
    const there = opened.getBoundingClientRect();
    const pointer = { x: at.left + at.width / 2, y: at.top + 6 };
    expect(there.left < pointer.x && pointer.x < there.right).toBe(true);
    expect(there.top < pointer.y && pointer.y < there.bottom).toBe(true);
    const view = canvas.getBoundingClientRect();
    expect(there.left >= view.left && there.right <= view.right).toBe(true);
    const corner = { x: there.left + 6, y: there.top + 6 };
    point(canvas, "pointerdown", corner);
    point(canvas, "pointerup", corner);
    await settled();
    expect(item(el, "encoder.layer.0,").ariaExpanded).toBe("false");
    expect(el.querySelectorAll("[role=treeitem]").length).toBe(count);
  });

  test("is a tree for keys: move, open, go in, go out, select", async () => {
    const { el, model } = mount();
    await settled();
    const first = item(el, "embeddings,");
    expect(first.tabIndex).toBe(0);
    first.focus();
    const key = async (name: string): Promise<HTMLElement> => {
      press(document.activeElement!, name);
      await settled();
      return document.activeElement as HTMLElement;
    };
    expect((await key("ArrowDown")).ariaLabel).toMatch(/^encoder\.layer, 6 built alike,/);
    expect((await key("ArrowRight")).ariaExpanded).toBe("true");
    expect((await key("ArrowDown")).ariaLabel).toMatch(/^encoder\.layer\.0,/);
    expect((await key("ArrowRight")).ariaExpanded).toBe("true");
    expect((await key("ArrowRight")).ariaLabel).toMatch(/^encoder\.layer\.0\.attention,/);
    expect((await key("ArrowLeft")).ariaLabel).toMatch(/^encoder\.layer\.0,/);
    await key("Enter");
    expect((model.get("selected_ops") as number[]).length).toBe(23);
    expect(item(el, "encoder.layer.0,").ariaSelected).toBe("true");
    expect((await key("ArrowLeft")).ariaExpanded).toBe("false");
  });

  test("is zoomed and moved by keys, about the box that has the focus", async () => {
    const { el } = mount();
    await settled();
    const box = item(el, "encoder.layer,");
    box.focus();
    const at = (): DOMRect => box.getBoundingClientRect();
    const before = at();
    press(box, "+");
    await settled();
    expect(at().width).toBeCloseTo(before.width * 1.25, 1);
    expect(at().left + at().width / 2).toBeCloseTo(before.left + before.width / 2, 1);
    const near = at();
    press(box, "ArrowRight", { shiftKey: true });
    await settled();
    expect([at().left - near.left, at().top - near.top].map(Math.round)).toEqual([-60, 0]);
    press(box, "0");
    await settled();
    expect(at().width).toBeLessThan(near.width);
    expect(box.ariaExpanded).toBe("false");
  });

  test("colours follow the metric, and a drag on the background pans without selecting", async () => {
    const { el, model } = await mountOpen();
    const box = item(el, "embeddings,");
    const size = paint(el, box);
    const select = get<HTMLSelectElement>(el, "select[aria-label='Colour by']");
    select.value = "bits";
    select.dispatchEvent(new Event("change", { bubbles: true }));
    await settled();
    expect(paint(el, item(el, "encoder.layer.0,"))).toBe(paint(el, box));
    expect(get(el, ".tlr-legend").textContent).toContain("16");
    select.value = "size";
    select.dispatchEvent(new Event("change", { bubbles: true }));
    await settled();
    expect(paint(el, box)).toBe(size);
    const canvas = get(el, "[data-testid=graph-canvas]");
    const [a, b] = [box.getBoundingClientRect(), canvas.getBoundingClientRect()];
    point(canvas, "pointerdown", { x: b.left + 4, y: b.top + 4 });
    point(canvas, "pointermove", { x: b.left + 44, y: b.top + 24 });
    point(canvas, "pointerup", { x: b.left + 44, y: b.top + 24 });
    await settled();
    expect(box.getBoundingClientRect().left - a.left).toBeCloseTo(40);
    expect(paint(el, box)).toBe(size);
    expect(model.get("selected_ops")).toEqual([]);
  });
});
