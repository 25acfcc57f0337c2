/** What is shown when things are not as they should be: no kernel, no state yet, no room, a part that fails. */

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import session from "../../src/session";
import trampoline from "../../src/view";
import { FakeModel } from "../fakeModel";
import { synthetic } from "../synthetic";
import {
  all,
  button,
  byName,
  click,
  closeAll,
  drag,
  frame,
  get,
  mount,
  press,
  rows,
  settled,
  value,
} from "./page";

beforeEach(() => vi.spyOn(console, "error").mockImplementation(() => undefined));
afterEach(() => {
  closeAll();
  vi.restoreAllMocks();
});

/** As @jupyterlab/services has it, as far as it is used. */
class FakeKernel {
  status = "idle";
  connectionStatus = "connected";
  isDisposed = false;
  private readonly slots = new Set<() => void>();
  readonly statusChanged = this.emitter();
  readonly connectionStatusChanged = this.emitter();

  private emitter() {
    return {
      connect: (slot: () => void) => this.slots.add(slot),
      disconnect: (slot: () => void) => this.slots.delete(slot),
    };
  }

  become(change: Partial<Pick<FakeKernel, "status" | "connectionStatus" | "isDisposed">>): void {
    Object.assign(this, change);
    for (const slot of [...this.slots]) slot();
  }

  get watchers(): number {
    return this.slots.size;
  }
}

function mountWith(kernel: FakeKernel | null): { el: HTMLElement; model: FakeModel; close(): void } {
  const model = Object.assign(new FakeModel(), { widget_manager: { kernel } });
  const abort = new AbortController();
  const el = document.createElement("div");
  el.style.width = "1230px";
  document.body.append(el);
  const dispose = session.initialize({ model, signal: abort.signal }).mount("explorer", el);
  return {
    el,
    model,
    close: () => {
      dispose();
      abort.abort();
      el.remove();
    },
  };
}

const bar = (el: HTMLElement): string => el.querySelector(".tlr-offline")?.textContent ?? "";
const slider = (el: HTMLElement): HTMLElement => get(rows(el)[0]!, "[role=slider]");

test("out of reach and back: edits go on, and those that were lost on the way are sent again", async () => {
  const kernel = new FakeKernel();
  const { el, model, close } = mountWith(kernel);
  await settled();
  expect(bar(el)).toBe("");
  kernel.become({ connectionStatus: "connecting" });
  await settled();
  expect(bar(el)).toBe(
    "The kernel cannot be reached: edits stay on this page until it is back, and are sent then.",
  );
  const size = value(el, "total-size");
  drag(slider(el), 3);
  await settled();
  expect(value(el, "total-size")).toBeLessThan(size);
  model.set("edits", []);
  kernel.become({ connectionStatus: "connected" });
  await settled();
  expect(bar(el)).toBe("");
  expect(model.edits).toHaveLength(1);
  close();
  expect(kernel.watchers).toBe(0);
});

const RESUME = "tnb.explore(model, resume=True)";
const KEPT = `Plan and history are kept: load the model, then run ${RESUME} to go on. Edits made here now are lost.`;

test.each<[string, Parameters<FakeKernel["become"]>[0][], string]>([
  [
    "was restarted",
    [{ status: "restarting" }, { status: "idle" }],
    `The kernel was restarted, which ended this session. ${KEPT}`,
  ],
  [
    "died, and is started again by the server",
    [{ status: "restarting" }, { status: "autorestarting" }, { status: "idle" }],
    `The kernel died, and this session with it. ${KEPT.replace("kept", "kept up to the last second")}`,
  ],
  [
    "was shut down",
    [{ status: "dead" }, { isDisposed: true }],
    `The kernel has ended, and this session with it. ${KEPT}`,
  ],
])(
  "a kernel that %s: the bar says what to do until Python speaks, and edits still move the screen",
  async (_, changes, sentence) => {
    const kernel = new FakeKernel();
    const { el, model, close } = mountWith(kernel);
    model.push("resume_call", RESUME);
    await settled();
    for (const change of changes) kernel.become(change);
    await settled();
    expect(bar(el)).toBe(sentence);
    const size = value(el, "total-size");
    drag(slider(el), 3);
    await settled();
    expect(value(el, "total-size")).toBeLessThan(size);
    expect(bar(el)).toBe(sentence);
    model.push("plan_state", synthetic().plan);
    await settled();
    expect(bar(el)).toBe("");
    close();
  },
);

test("what only Python can do is refused at once when the session has ended, also what it was asked before", async () => {
  const kernel = new FakeKernel();
  const { el, model, close } = mountWith(kernel);
  model.push("resume_call", RESUME);
  await settled();
  button(el, "Export").click();
  await settled();
  get(el, "[role=menuitem]").click();
  await settled();
  expect(el.textContent).toContain("waiting for the kernel…");
  drag(slider(el), 3);
  kernel.become({ status: "restarting" });
  await settled();
  expect(bar(el)).toContain("lost, and so is 1 edit that it had not heard of.");
  const refused = `The kernel was restarted, which ended this session: go on with ${RESUME}.`;
  expect(get(el, "dialog [role=alert]").textContent).toContain(refused);
  button(get(el, "dialog"), "Close").click();
  await settled();
  button(el, "Optimize…").click();
  await settled();
  expect(get(el, "[role=dialog]").textContent).toContain(refused);
  expect(el.textContent).not.toContain("waiting for the kernel");
  const device = get<HTMLSelectElement>(el, "[aria-label=Device]");
  device.value = "iPhone 13";
  device.dispatchEvent(new Event("change", { bubbles: true }));
  await settled();
  expect(get(el, ".tlr-summary").textContent).toContain("on iPhone 15 Pro · not priced without the kernel");
  close();
});

test("errors that are being found have their place; nobody says so where none will come", async () => {
  const kernel = new FakeKernel();
  const { el, model, close } = mountWith(kernel);
  await settled();
  const error = (): string =>
    all(el, ".tlr-figure").find((f) => f.textContent?.startsWith("Error"))?.textContent ?? "";
  const everywhere = (): string[] => {
    const shown = [error(), get(el, ".tlr-details").textContent ?? ""];
    return [...shown, ...texts(".tlr-total .tlr-cell-error")];
  };
  const texts = (cells: string): string[] =>
    all(el, cells)
      .map((c) => c.textContent ?? "")
      .filter((text) => text !== "");
  expect(error()).toContain("not known");
  expect(all(el, ".tlr-cell-error")).toEqual([]);

  model.push("sweep_state", { running: true, refusal: "" });
  button(el, "Optimize…").click();
  click(rows(el)[0]!);
  await settled();
  expect(everywhere().length).toBeGreaterThan(2);
  for (const text of everywhere()) expect(text).toContain("being found");
  expect(new Set(texts(".tlr-row .tlr-cell-error"))).toEqual(new Set(["…"]));
  const slider = get<HTMLInputElement>(el, "input[type=range]");
  expect(slider.disabled).toBe(true);
  expect(slider.title).toBe("Errors of the weights are being found: the slider needs them.");
  expect(get(el, ".tlr-optimize-slider").textContent).toContain(slider.title);

  kernel.become({ connectionStatus: "disconnected" });
  await settled();
  expect(error()).toContain("not known");
  kernel.become({ connectionStatus: "connected" });
  await settled();
  expect(error()).toContain("being found");
  kernel.become({ status: "restarting" });
  await settled();
  expect(el.textContent).not.toContain("being found");
  expect(slider.title).toContain("The kernel was restarted");
  close();
});

test("errors that cannot be found are not on their way, and the reason is told", async () => {
  const { el, model } = mount();
  await settled();
  model.push("sweep_state", { running: true, refusal: "" });
  model.push("sweep_state", { running: false, refusal: "Weight w cannot be decompressed" });
  await settled();
  const error = all(el, ".tlr-figure").find((f) => f.textContent?.startsWith("Error"))!;
  expect(error.textContent).toContain("not known");
  expect(error.title).toBe("Errors of the weights cannot be found: Weight w cannot be decompressed.");
  expect(el.textContent).not.toContain("being found");
});

test("without any kernel, as in a saved notebook, and where a closed comm throws", async () => {
  const saved = mountWith(null);
  await settled();
  expect(bar(saved.el)).toBe(
    "This session has no kernel. Run the cell that made it again to go on. Edits made here now are lost.",
  );
  expect(rows(saved.el).length).toBeGreaterThan(5);
  saved.close();

  vi.spyOn(console, "warn").mockImplementation(() => undefined);
  const { el, model } = mount();
  await settled();
  model.save_changes = () => {
    throw new Error("Cannot send");
  };
  rows(el)[0]!.click();
  await settled();
  expect(rows(el)[0]!.ariaSelected).toBe("true");
  expect(bar(el)).not.toBe("");
});

test("before its state arrives the Explorer says that it loads; then it draws", async () => {
  const model = new FakeModel();
  const wire = {
    program: model.get("program"),
    costs: model.get("costs"),
    plan_state: model.get("plan_state"),
  };
  for (const key of Object.keys(wire)) model.set(key, {});
  const el = document.createElement("div");
  el.style.width = "1230px";
  document.body.append(el);
  const dispose = session.initialize({ model }).mount("explorer", el);
  await settled();
  expect(el.textContent).toContain("Loading the model");
  expect(rows(el)).toEqual([]);
  for (const [key, state] of Object.entries(wire).reverse()) model.push(key, state);
  await settled();
  expect(el.textContent).not.toContain("Loading the model");
  expect(rows(el).length).toBeGreaterThan(5);
  dispose();
  el.remove();
});

test("a part that fails says so in a sentence, the others go on, and it can be drawn again", async () => {
  const { el, model } = mount();
  await settled();
  const costs = model.get("costs") as object;
  model.push("costs", { ...costs, schemes: [] });
  await settled();
  const alerts = (): HTMLElement[] => all(el, "[role=alert]");
  const table = alerts().find((alert) => alert.textContent!.startsWith("The table"))!;
  expect(table.textContent).toMatch(/^The table could not be drawn: .+\. Edits are kept\. Draw it again$/);
  expect(get(el, ".tlr-summary").textContent).toContain("Size");
  expect(button(el, "Export").disabled).toBe(false);
  model.push("costs", costs);
  await settled();
  for (const alert of alerts()) get(alert, "button").click();
  await settled();
  expect(alerts()).toEqual([]);
  expect(rows(el).length).toBeGreaterThan(5);
});

test("a session that cannot be read, and a view whose session is gone, say what to do", async () => {
  const el = document.createElement("div");
  const model = new FakeModel();
  model.get = () => {
    throw new Error("bad state.");
  };
  const dispose = session.initialize({ model }).mount("explorer", el);
  expect(el.textContent).toBe(
    "This session could not be read: bad state. Run the cell that made it again; if that does not help, restart the kernel.",
  );
  dispose();
  expect(el.childNodes.length).toBe(0);
  await trampoline.render({
    model: { get: () => "" },
    el,
    host: { getWidget: () => Promise.reject(new Error("Timed out")) },
  } as unknown as Parameters<typeof trampoline.render>[0]);
  expect(el.textContent).toContain("is not there any more. Run the cell");
});

test("? shows the keys, but not while text is typed; the focus goes back", async () => {
  const { el } = mount();
  await settled();
  const search = get<HTMLInputElement>(el, "input[type=search]");
  search.focus();
  press(search, "?");
  await frame();
  expect(el.querySelector("dialog")).toBeNull();
  const grid = get(el, "[role=grid]");
  grid.focus();
  press(grid, "?");
  await settled();
  const dialog = get<HTMLDialogElement>(el, "dialog[aria-label=Keys]");
  expect(dialog.open).toBe(true);
  const told = all(dialog, "dt").map((dt) => dt.textContent);
  for (const keys of ["Ctrl or ⌘ Z", "Esc", "?", "Ctrl or ⌘ A"]) expect(told).toContain(keys);
  button(dialog, "Close").click();
  await settled();
  expect(el.querySelector("dialog")).toBeNull();
  expect(document.activeElement).toBe(grid);
});

test("what goes wrong on a canvas is said in its place, and the edit that showed it goes on", async () => {
  const { el } = mount();
  await settled();
  const canvas = get<HTMLCanvasElement>(el, "[data-testid=graph-canvas]");
  canvas.getContext("2d")!.clearRect = () => {
    throw new Error("no canvas");
  };
  const size = value(el, "total-size");
  press(byName(el, "slider", "Bits of all weights"), "End");
  await settled();
  expect(value(el, "total-size")).toBeLessThan(size);
  const graph = all(el, "[role=alert]").find((alert) => alert.textContent!.startsWith("The graph"))!;
  expect(graph.textContent).toContain("could not be drawn: no canvas.");
  get(graph, "button").click();
  await settled();
  expect(el.querySelector("[role=alert]")).toBeNull();
  expect(get(el, "[data-testid=graph-canvas]").isConnected).toBe(true);
});

test("a plan that was being refined when the kernel ended is so no more", async () => {
  const kernel = new FakeKernel();
  const { el, model, close } = mountWith(kernel);
  await settled();
  model.push("refine_state", { running: true, stage: "Round 1", done: 0.5 });
  button(el, "Optimize…").click();
  await settled();
  const refine = get(el, "[aria-label='Refine by measuring']");
  get(refine, "[role=progressbar]");
  kernel.become({ status: "restarting" });
  await settled();
  expect(all(refine, "[role=progressbar]")).toEqual([]);
  expect(get(refine, "[role=status]").textContent).toContain("The kernel ended before this was done");
  button(refine, "Refine").click();
  await settled();
  expect(get(refine, "[role=alert]").textContent).toContain("The kernel was restarted");
  close();
});
