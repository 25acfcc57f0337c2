/** What axe-core finds in the Explorer, in both themes and with everything that opens opened: nothing serious. */

import axe from "axe-core";
import { afterEach, describe, expect, test } from "vitest";
import type { Wire } from "../../src/protocol";
import { levels, OP, offer, WEIGHT } from "./answers";
import { all, button, byName, click, closeAll, get, mount, type Page, press, rows, settled } from "./page";

afterEach(() => {
  closeAll();
  delete document.body.dataset.jpThemeLight;
  document.body.style.background = "";
});

const GRAVE = ["serious", "critical"];

/** Each serious or critical violation with where it is, after making sure that axe could read the colours. */
async function grave(el: HTMLElement): Promise<string[]> {
  const { violations, passes } = await axe.run(el);
  const contrast = passes.find(({ id }) => id === "color-contrast");
  expect(contrast?.nodes.length ?? 0, "texts whose contrast was measured").toBeGreaterThan(10);
  return violations
    .filter(({ impact }) => impact && GRAVE.includes(impact))
    .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html}\n${node.failureSummary ?? ""}`));
}

async function drawn(theme: string): Promise<Page> {
  document.body.dataset.jpThemeLight = String(theme === "light");
  document.body.style.background = theme === "light" ? "#fff" : "#111";
  const page = mount();
  await settled();
  expect(get(page.el, ".tlr").hasAttribute("data-dark")).toBe(theme === "dark");
  return page;
}

/** Answer everything that was asked: requests sent in one go carry the earlier ones. */
async function answerAll({ model }: Page): Promise<void> {
  const request = model.get("request") as Wire & { earlier?: Wire[] };
  const answers: Record<string, object> = { op: OP, weight: WEIGHT, levels: levels(4), open: offer(model) };
  for (const { id, action, what } of [...(request.earlier ?? []), request])
    model.push("response", { id, action, ok: true, message: "", ...answers[String(what)] });
  await settled();
}

describe.each(["light", "dark"])("nothing serious in the %s theme", (theme) => {
  test("as it opens", async () => {
    const { el } = await drawn(theme);
    expect(await grave(el)).toEqual([]);
  });

  test("with the details of a selected op", async () => {
    const page = await drawn(theme);
    click(rows(page.el)[0]!);
    await settled();
    await answerAll(page);
    expect(get(page.el, ".tlr-source").textContent).toContain("self.query(x)");
    expect(await grave(page.el)).toEqual([]);
  });

  test("with each tab of the charts, after an edit", async () => {
    const { el } = await drawn(theme);
    press(byName(el, "slider", "Bits of all weights"), "ArrowRight");
    const tabs = all(el, ".tlr-dock [role=tab]");
    expect(tabs.length).toBe(5);
    for (const tab of tabs) {
      click(tab);
      await settled();
      expect(tab.ariaSelected).toBe("true");
      expect(await grave(el), tab.textContent ?? "").toEqual([]);
    }
  });

  test("with the panel of Optimize", async () => {
    const page = await drawn(theme);
    button(page.el, "Optimize…").click();
    await settled();
    await answerAll(page);
    expect(byName(page.el, "dialog", "Best plan").textContent).toContain("knows nothing about");
    expect(await grave(page.el)).toEqual([]);
  });

  test("with the Export menu", async () => {
    const { el } = await drawn(theme);
    button(el, "Export").click();
    await settled();
    expect(all(el, "[role=menuitem]").length).toBe(6);
    expect(await grave(el)).toEqual([]);
  });

  test("with the keys that ? shows", async () => {
    const { el } = await drawn(theme);
    press(rows(el)[0]!, "?");
    await settled();
    expect(get<HTMLDialogElement>(el, "dialog").open).toBe(true);
    expect(await grave(el)).toEqual([]);
  });
});
