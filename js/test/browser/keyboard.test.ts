/** The story of an afternoon without a pointer: real keys, as the browser gets them, from one end to the other. */

import { afterEach, expect, test } from "vitest";
import { userEvent } from "vitest/browser";
import type { Wire } from "../../src/protocol";
import { levels, OP, offer, WEIGHT } from "./answers";
import { all, byName, cell, closeAll, get, mount, type Page, rows, settled, value } from "./page";

afterEach(closeAll);

const MOST_STOPS = 80;
const focused = (): HTMLElement => document.activeElement as HTMLElement;
const nameOf = (el: Element): string => el.ariaLabel ?? el.textContent?.trim() ?? "";

async function keys(text: string): Promise<void> {
  await userEvent.keyboard(text);
  await settled();
}

/** Tab, or Shift and Tab, until the focus is where it is wanted; every stop on the way shows that it has the focus. */
async function tabTo(wanted: (el: HTMLElement) => boolean, back = false): Promise<HTMLElement> {
  const passed: string[] = [];
  for (let i = 0; i < MOST_STOPS; i++) {
    await userEvent.tab({ shift: back });
    const el = focused();
    // Behind the last stop it is the browser's own controls' turn.
    if (el === document.body) continue;
    expect(el.matches(":focus-visible"), `the focus on ${nameOf(el)} is seen`).toBe(true);
    const { outlineStyle, boxShadow } = getComputedStyle(el);
    if (el.closest(".tlr"))
      expect([outlineStyle, boxShadow], `a ring around ${nameOf(el)}`).not.toEqual(["none", "none"]);
    if (wanted(el)) return el;
    passed.push(`${el.tagName} ${nameOf(el).slice(0, 30)}`);
  }
  throw new Error(`not reached by Tab, which stopped at ${passed.join(" | ")}`);
}

const called =
  (start: string) =>
  (el: HTMLElement): boolean =>
    nameOf(el).startsWith(start);

async function answerAll({ model }: Page, answers: Record<string, object>): Promise<void> {
  const request = model.get("request") as Wire & { earlier?: Wire[] };
  for (const { id, action, what } of [...(request.earlier ?? []), request])
    model.push("response", { id, action, what, ok: true, message: "", ...answers[String(what)] });
  await settled();
}

test("sort, select, see source, set bits, compare, undo, find a plan and export, by keys alone", async () => {
  const pointers: string[] = [];
  const note = (e: Event): void => void pointers.push(e.type);
  for (const type of ["pointerdown", "mousedown"]) addEventListener(type, note, true);
  const above = document.createElement("button");
  above.textContent = "the cell above";
  document.body.append(above);
  const page = mount();
  const { el, model } = page;
  model.blocked = false;
  await settled();
  above.focus();

  // Sort by latency, the slowest first.
  const heading = await tabTo((at) => at.matches(".tlr-cell-latency button"));
  const sorted = (): string | null => heading.closest("[role=columnheader]")!.getAttribute("aria-sort");
  await keys("{Enter}");
  if (sorted() !== "descending") await keys("{Enter}");
  expect(sorted()).toBe("descending");
  const shown = rows(el).map((row) => Number.parseFloat(cell(row, "latency").replace(/[^\d.]/g, "")));
  expect(shown).toEqual([...shown].sort((a, b) => b - a));
  const slowest = rows(el)
    .slice(0, 5)
    .map((row) => Number(row.dataset.op));

  // The code of the slowest.
  await tabTo((at) => at.role === "grid", true);
  await keys("{Home}{Enter}");
  expect(model.get("selected_ops")).toEqual([slowest[0]]);
  await answerAll(page, { op: OP, weight: WEIGHT, levels: levels(4) });
  const summary = await tabTo((at) => at.matches(".tlr-source summary.is-first"), true);
  expect(summary.textContent).toContain("modeling.py:12");
  await keys("{Enter}");
  expect(summary.closest("details")!.open).toBe(true);

  // The five slowest to 4 bits, each key a step.
  await tabTo((at) => at.role === "grid");
  await keys("{Shift>}{ArrowDown}{ArrowDown}{ArrowDown}{ArrowDown}{/Shift}");
  expect(new Set(model.get("selected_ops") as number[])).toEqual(new Set(slowest));
  const size = value(el, "total-size");
  const bits = await tabTo(called("Bits of 5 ops"));
  for (let i = 0; i < 8 && !bits.ariaValueText?.startsWith("4 bits"); i++) await keys("{ArrowRight}");
  expect(bits.ariaValueText).toMatch(/^4 bits/);
  const smaller = value(el, "total-size");
  expect(smaller).toBeLessThan(size);

  // Compared with this very step, then with float16 again.
  const words = (): string => get(el, ".tlr-summary").textContent ?? "";
  const baseline = await tabTo(called("Compare with"), true);
  expect(baseline).toBe(focused());
  await keys("{End}");
  expect(words()).toMatch(/no change than step/);
  await keys("{Home}");
  expect(words()).toContain("smaller than float16");

  // All of it taken back.
  for (let i = 0; i < 8 && value(el, "total-size") !== size; i++) await keys("{Control>}z{/Control}");
  expect(value(el, "total-size")).toBe(size);

  // The best plan of 3.6 bits.
  await tabTo(called("Optimize"));
  await keys("{Enter}");
  await answerAll(page, { open: offer(model) });
  expect(focused().ariaLabel).toBe("Budget");
  await keys("3.6 bits{Enter}");
  expect(model.get("request")).toMatchObject({ action: "optimize", what: "budget", budget: "3.6 bits" });
  await answerAll(page, { budget: { message: "3.59 bits a weight." } });
  expect(byName(el, "dialog", "Best plan").textContent).toContain("3.59 bits a weight.");
  await keys("{Escape}");
  expect(nameOf(focused())).toBe("Optimize…");

  // Its source, as text that can be read and left.
  await tabTo(called("Export"));
  await keys("{Enter}");
  expect(all(el, "[role=menuitem]")).toContain(focused());
  await keys("{Enter}");
  expect(model.get("request")).toMatchObject({ action: "export", what: "python" });
  await answerAll(page, { python: { texts: [{ title: "Source", text: "import coremltools\n" }] } });
  expect(get(el, "dialog").contains(focused())).toBe(true);
  await tabTo((at) => at.matches(".tlr-code"));
  await keys("{Escape}");
  expect(el.querySelector("dialog")).toBeNull();
  expect(nameOf(focused())).toBe("Export");

  expect(pointers).toEqual([]);
  for (const type of ["pointerdown", "mousedown"]) removeEventListener(type, note, true);
  above.remove();
});
