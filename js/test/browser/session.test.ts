/** Export, device, theme, separate views of one session, and leaving nothing behind. */

import { afterEach, describe, expect, test, vi } from "vitest";
import { decodeCosts } from "../../src/protocol";
import session from "../../src/session";
import trampoline from "../../src/view";
import { FakeModel, planWire } from "../fakeModel";
import { measuredWire, synthetic, view } from "../synthetic";
import {
  all,
  button,
  byName,
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
  rows,
  settled,
  value,
} from "./page";

afterEach(() => {
  closeAll();
  delete document.body.dataset.jpThemeLight;
});

const menu = (el: ParentNode): HTMLElement[] => all(el, "[role=menuitem]");
const choose = async (el: ParentNode, title: string): Promise<void> => {
  button(el, "Export").click();
  await settled();
  menu(el)
    .find((item) => item.textContent?.startsWith(title))
    ?.click();
  await frame();
};
const asked = (model: FakeModel): { id: string } & Record<string, unknown> =>
  model.get("request") as { id: string };

describe("the Export menu", () => {
  test("is a menu for keys: open, move, wrap, jump by letter, Escape gives the focus back", async () => {
    const { el, model } = mount();
    await settled();
    const opener = button(el, "Export");
    expect(opener.getAttribute("aria-expanded")).toBe("false");
    opener.focus();
    press(opener, "ArrowDown");
    await settled();
    expect(opener.getAttribute("aria-expanded")).toBe("true");
    const titles = menu(el).map((item) => get(item, "span").textContent);
    expect(titles.length).toBe(6);
    const focused = (): string => get(document.activeElement!, "span").textContent ?? "";
    expect(focused()).toBe(titles[0]);
    press(document.activeElement!, "ArrowUp");
    expect(focused()).toBe(titles.at(-1));
    press(document.activeElement!, "t");
    expect(focused()).toBe("torch configs");
    press(document.activeElement!, "Home");
    press(document.activeElement!, "ArrowDown");
    expect(focused()).toBe("coremltools YAML");
    press(document.activeElement!, "Escape");
    await frame();
    expect(menu(el)).toEqual([]);
    expect(document.activeElement).toBe(opener);
    press(opener, "ArrowDown");
    await settled();
    press(document.activeElement!, "Enter");
    await frame();
    expect(menu(el)).toEqual([]);
    expect(asked(model).what).toBe("python");
  });

  test("closes when the focus leaves it, and lies inside the view", async () => {
    const { el } = mount({}, "explorer", 900);
    await settled();
    button(el, "Export").click();
    await settled();
    const [list, root] = [get(el, "[role=menu]"), get(el, ".tlr")];
    const [a, b] = [list.getBoundingClientRect(), root.getBoundingClientRect()];
    expect(a.left).toBeGreaterThanOrEqual(b.left);
    expect(a.right).toBeLessThanOrEqual(b.right);
    get(el, "input[type=search]").focus();
    await frame();
    expect(menu(el)).toEqual([]);
  });

  test("says that a package has no torch configs, and asks for none", async () => {
    const { el, model } = mount();
    model.push("program", { ...(model.get("program") as object), from_torch: false });
    await settled();
    await choose(el, "torch configs");
    expect(model.get("request")).toBeUndefined();
    expect(el.textContent).toContain("did not come from a torch module");
  });
});

test("export waits for the kernel, stays usable, and then shows the code as text", async () => {
  const { el, model } = mount();
  await settled();
  await choose(el, "Python source");
  expect(el.textContent).toContain("waiting for the kernel…");
  const { id, action, what } = asked(model);
  expect([action, what]).toEqual(["export", "python"]);
  const size = value(el, "total-size");
  drag(byName(el, "slider", "Bits of all weights"), 3);
  await frame();
  expect(value(el, "total-size")).toBeLessThan(size);
  expect(el.querySelector("dialog")).toBeNull();

  const code = "configs = [('palettize', OptimizationConfig())]  # <b>not bold</b>\n";
  model.push("response", { id, ok: true, what, message: "", texts: [{ title: "Source", text: code }] });
  await frame();
  const dialog = get<HTMLDialogElement>(el, "dialog");
  expect(dialog.open).toBe(true);
  expect(get(dialog, "pre").textContent).toBe(code);
  expect(dialog.querySelector("b")).toBeNull();
  const copied = vi.spyOn(navigator.clipboard, "writeText").mockResolvedValue();
  button(dialog, "Copy").click();
  await settled();
  expect(copied).toHaveBeenCalledWith(code);
  expect(dialog.textContent).toContain("Copied");

  button(dialog, "Save").click();
  await frame();
  const { path, replace } = asked(model);
  expect(path).toMatch(/^all-MiniLM-L6-v2-[\d.]+bit\.py$/);
  expect(replace).toBe(false);
  const taken = { id: asked(model).id, ok: false, what, message: "It exists already.", taken: "other-2.py" };
  model.push("response", taken);
  await frame();
  expect(get(dialog, "[role=alert]").textContent).toBe("It exists already.");
  expect(get(dialog, "pre").textContent).toBe(code);
  button(dialog, "Save as other-2.py").click();
  await frame();
  expect(asked(model)).toMatchObject({ path: "other-2.py", replace: false });
  model.push("response", { ...taken, id: asked(model).id });
  await frame();
  button(dialog, "Replace it").click();
  await frame();
  expect(asked(model)).toMatchObject({ path: "other-2.py", replace: true });

  button(dialog, "Close").click();
  await settled();
  expect(el.querySelector("dialog")).toBeNull();
});

test("a package is compressed where one says, with progress, and what came out is shown", async () => {
  const { el, model } = mount();
  await settled();
  await choose(el, "Compressed package");
  const dialog = get<HTMLDialogElement>(el, "dialog");
  const path = get<HTMLInputElement>(dialog, "input");
  expect(path.value).toBe("all-MiniLM-L6-v2-16bit.mlpackage");
  expect(document.activeElement).toBe(path);
  path.value = "mine.mlpackage";
  path.dispatchEvent(new Event("input", { bubbles: true }));
  await frame();
  button(dialog, "Compress and save").click();
  await frame();
  const { id } = asked(model);
  expect(asked(model)).toMatchObject({ what: "package", path: "mine.mlpackage", replace: false });
  model.push("progress", { id, what: "package", stage: "Compressing", done: 0.42 });
  await frame();
  const bar = get(dialog, "[role=progressbar]");
  expect(bar.ariaValueNow).toBe("42");
  expect(dialog.textContent).toContain("Compressing");
  button(dialog, "Close").click();
  await settled();
  expect(el.querySelector("dialog")).toBeNull();
  expect(get(el, ".tlr-header").textContent).toContain("42");

  model.push("response", {
    id,
    ok: true,
    what: "package",
    message: "Saved /tmp/mine.mlpackage.",
    saved: ["/tmp/mine.mlpackage"],
    report: {
      verdict: "1 of 3 differs.",
      ok: false,
      weights: 2,
      matching: 1,
      rows: [["weight.bin", 1200, 1264]],
      findings: [["w_1", "It was not compressed."]],
    },
  });
  await frame();
  const result = get<HTMLDialogElement>(el, "dialog");
  expect(result.textContent).toContain("Saved /tmp/mine.mlpackage.");
  expect(get(result, ".tlr-report .tlr-error").textContent).toContain("1 of 3 differs.");
  expect(all(result, "tbody td").map((td) => td.textContent)).toEqual(["1\u202f200", "1\u202f264", "+64"]);
  expect(get(result, "li").textContent).toContain("w_1 It was not compressed.");
  expect(result.querySelector("form")).toBeNull();
});

test("an export that was called off shows nothing when its answer comes", async () => {
  const { el, model } = mount();
  await settled();
  await choose(el, "Plan");
  const { id } = asked(model);
  button(el, "Cancel").click();
  await frame();
  expect(el.textContent).not.toContain("waiting for the kernel");
  model.push("response", { id, ok: true, what: "plan", message: "", texts: [] });
  await frame();
  expect(el.querySelector("dialog")).toBeNull();
});

test("a failed export says why", async () => {
  const { el, model } = mount();
  await settled();
  await choose(el, "coremltools configs");
  const { id } = asked(model);
  model.push("response", { id, ok: false, what: "configs", message: "The plan changes nothing." });
  await frame();
  expect(get(el, "dialog [role=alert]").textContent).toBe("The plan changes nothing.");
});

test("what was measured stands with a dot in place of the estimate, until the plan changes", async () => {
  const { el, model } = mount({}, "explorer", 2400);
  await settled();
  const estimated = value(el, "total-latency");
  model.push("measured_state", measuredWire(synthetic()));
  await settled();
  const total = get(el, "[data-testid=total-latency]");
  expect([total.textContent, total.dataset.value]).toEqual(["•\u202f2.50\u202fms", "2.5"]);
  expect(get(el, ".tlr-summary").textContent).toContain("on this Mac · estimated ≈");
  const first = (): HTMLElement => get(el, "[data-testid=op-row][data-op='0']");
  expect(get(first(), ".tlr-cell-latency").textContent).toBe("•\u202f0.500");
  expect(get(first(), ".tlr-cell-unit").textContent).toBe("•\u202fGPU");
  drag(get(first(), "[role=slider]"), 3);
  await settled();
  expect(get(el, "[data-testid=total-latency]").textContent).toContain("≈");
  expect(value(el, "total-latency")).toBeLessThan(estimated);
  expect(get(first(), ".tlr-cell-latency").textContent).toContain("≈");
  expect(get(first(), ".tlr-cell-unit").textContent).toBe("Neural Engine");
});

test("a device is asked for at once and priced when its costs come", async () => {
  const { el, model } = mount();
  await settled();
  const ms = value(el, "total-latency");
  const select = get<HTMLSelectElement>(el, "select[aria-label='Device']");
  select.value = "iPhone 13";
  select.dispatchEvent(new Event("change", { bubbles: true }));
  await frame();
  expect(model.get("device")).toBe("iPhone 13");
  expect(el.textContent).toContain("on iPhone 15 Pro · waiting for the kernel");
  expect(value(el, "total-latency")).toBe(ms);
  model.push("costs", synthetic({ device: "iPhone 13" }).costs);
  await frame();
  expect(value(el, "total-latency")).toBeGreaterThan(ms);
  expect(el.textContent).not.toContain("waiting for the kernel");
});

test("a theme that switches live is followed, canvas included", async () => {
  document.body.dataset.jpThemeLight = "true";
  const { el } = await mountOpen();
  const light = paint(el, item(el, "encoder.layer.0,"));
  const ground = getComputedStyle(get(el, ".tlr-header")).borderBottomColor;
  document.body.dataset.jpThemeLight = "false";
  await settled();
  expect(paint(el, item(el, "encoder.layer.0,"))).not.toBe(light);
  expect(getComputedStyle(get(el, ".tlr-header")).borderBottomColor).not.toBe(ground);
});

test.each(["light", "dark"])("a view that is drawn before it is in the page is %s like it", async (theme) => {
  document.body.dataset.jpThemeLight = String(theme === "light");
  const abort = new AbortController();
  const { mount: draw } = session.initialize({ model: new FakeModel(), signal: abort.signal });
  const cell = document.createElement("div");
  const dispose = draw("table", cell, { height: 300 });
  document.body.append(cell);
  await settled();
  expect(get(cell, ".tlr").hasAttribute("data-dark")).toBe(theme === "dark");
  dispose();
  abort.abort();
  cell.remove();
});

test("a view widget draws through the session it names, at its height, and cleans up", async () => {
  const { mount: draw } = session.initialize({ model: new FakeModel() });
  const traits: Record<string, unknown> = { session: "anywidget:abc", view: "table", height: 333 };
  const asked: string[] = [];
  const el = document.createElement("div");
  document.body.append(el);
  const dispose = await trampoline.render({
    model: { get: (key: string) => traits[key] },
    el,
    host: {
      getWidget: (ref: string) => {
        asked.push(ref);
        return Promise.resolve({ exports: { mount: draw } });
      },
    },
  } as unknown as Parameters<typeof trampoline.render>[0]);
  await settled();
  expect(asked).toEqual(["anywidget:abc"]);
  expect(rows(el).length).toBeGreaterThan(5);
  expect(get(el, ".tlr").getBoundingClientRect().height).toBe(333);
  dispose();
  expect(el.childNodes.length).toBe(0);
  el.remove();
});

test("the Explorer is 720 px high and can be made taller by its handle and by keys", async () => {
  const { el } = mount();
  await settled();
  const height = (): number => get(el, ".tlr").getBoundingClientRect().height;
  expect(height()).toBe(720);
  const handle = byName(el, "separator", "Height of the Explorer");
  const at = handle.getBoundingClientRect();
  point(handle, "pointerdown", { x: at.left + 9, y: at.top });
  point(handle, "pointermove", { x: at.left + 9, y: at.top + 80 });
  handle.dispatchEvent(new PointerEvent("lostpointercapture"));
  await settled();
  expect(height()).toBe(800);
  press(handle, "ArrowUp");
  await settled();
  expect(height()).toBe(776);
});

test("separate views of one session are linked", async () => {
  const model = new FakeModel();
  const { mount: draw } = session.initialize({ model });
  const disposers: (() => void)[] = [];
  const show = (view: "summary" | "table" | "sliders" | "graph"): HTMLElement => {
    const el = document.createElement("div");
    document.body.append(el);
    const dispose = draw(view, el);
    disposers.push(dispose, () => el.remove());
    return el;
  };
  const [summary, table, sliders, graph] = [show("summary"), show("table"), show("sliders"), show("graph")];
  await settled();
  const size = value(summary, "total-size");
  rows(table)[0]!.click();
  await frame();
  expect(sliders.textContent).toContain("1 op");
  expect(item(graph, "embeddings,").ariaLabel).toContain("partly selected");
  drag(byName(sliders, "slider", "Bits of 1 op"), 4);
  await frame();
  expect(value(summary, "total-size")).toBeLessThan(size);
  for (const dispose of disposers) dispose();
});

test("an Explorer that is closed leaves no listener, no observer and no style of its own", async () => {
  const counts = new Map<EventTarget, number>();
  const [add, remove] = [EventTarget.prototype.addEventListener, EventTarget.prototype.removeEventListener];
  const outside = (target: EventTarget): boolean =>
    target === window || target === document || target instanceof MediaQueryList;
  EventTarget.prototype.addEventListener = function (...args: Parameters<typeof add>) {
    if (outside(this)) counts.set(this, (counts.get(this) ?? 0) + 1);
    return add.apply(this, args);
  };
  EventTarget.prototype.removeEventListener = function (...args: Parameters<typeof remove>) {
    if (outside(this)) counts.set(this, (counts.get(this) ?? 0) - 1);
    return remove.apply(this, args);
  };
  const sheets = document.adoptedStyleSheets.length;
  try {
    const page = mount();
    await settled();
    expect(page.model.listenerCount).toBeGreaterThan(0);
    expect([...counts.values()].some((n) => n > 0)).toBe(true);
    const root = get(page.el, ".tlr");
    page.close();
    await settled();
    expect(page.model.listenerCount).toBe(0);
    expect([...counts.values()].every((n) => n === 0)).toBe(true);
    expect(page.el.childNodes.length).toBe(0);
    document.body.dataset.jpThemeLight = "false";
    await settled();
    expect(root.hasAttribute("data-dark")).toBe(false);
    mount().close();
    expect(document.adoptedStyleSheets.length).toBeLessThanOrEqual(sheets + 1);
  } finally {
    EventTarget.prototype.addEventListener = add;
    EventTarget.prototype.removeEventListener = remove;
  }
});

test("a model that was loaded compressed has not changed yet, also in the sums of the table", async () => {
  const { el, model } = mount();
  const costs = decodeCosts(model.get("costs"));
  const FOUR_BITS = 3;
  const width = costs.schemes.length;
  const start = Uint16Array.from(costs.start, (_, w) => (costs.legal[w * width + FOUR_BITS] ? FOUR_BITS : 0));
  expect(start.some((column) => column === FOUR_BITS)).toBe(true);
  model.push(
    "plan_state",
    planWire({ scheme: start, int8: new Uint8Array(), entries: [], cursor: 0 }, 2, {}),
  );
  await settled();
  const size = () => get(el, ".tlr-total .tlr-cell-size").textContent;
  expect(size()).toContain("→");
  model.push("costs", { ...(model.get("costs") as object), start: view(start) });
  await settled();
  expect(size()).not.toContain("→");
  expect(size()).not.toContain("0\u202fB");
});
