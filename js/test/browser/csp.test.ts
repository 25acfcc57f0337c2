/** The built bundles under a strict Content-Security-Policy, loaded as anywidget loads them: as modules from blobs. */

import { afterEach, expect, test } from "vitest";
import { server } from "vitest/browser";
import type { SessionExports } from "../../src/session";
import { FakeModel } from "../fakeModel";
import { all, button, byName, frame, get, value } from "./page";

const NONCE = "5wLGb0Sd";
const POLICY = `default-src 'none'; script-src 'nonce-${NONCE}' blob:; style-src 'unsafe-inline'; img-src data: blob:`;
const PAGE = `<!doctype html>
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<script nonce="${NONCE}">
  window.violations = [];
  addEventListener("securitypolicyviolation", (e) => {
    window.violations.push(e.violatedDirective + " " + e.blockedURI);
  });
  window.load = (code) => import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
</script>
<body>`;

/** What is in the page under the policy. */
interface Guarded {
  document: Document;
  violations: string[];
  load(code: string): Promise<{ default: object }>;
  structuredClone: typeof structuredClone;
  eval(code: string): unknown;
  performance: Performance;
}

let host: HTMLIFrameElement | undefined;
afterEach(() => host?.remove());

async function guarded(): Promise<Guarded> {
  const iframe = document.createElement("iframe");
  host = iframe;
  iframe.style.cssText = "width: 1250px; height: 780px";
  iframe.srcdoc = PAGE;
  const ready = new Promise((resolve) => iframe.addEventListener("load", resolve, { once: true }));
  document.body.append(iframe);
  await ready;
  return iframe.contentWindow as unknown as Guarded;
}

const built = (name: string): Promise<string> => server.commands.readFile(`../talaria_nb/static/${name}.js`);

test.each(["session", "view"])("%s.js makes no code of text and imports nothing", async (name) => {
  const code = await built(name);
  expect(code).toContain("export");
  expect(code).not.toMatch(/\b(eval|Function|import|importScripts)\s*\(/);
  expect(code).not.toMatch(/\bimport\s*[{*"']/);
});

test("drawn from the built bundles, with a slider moved, menus and charts opened and in VS Code's themes, the Explorer keeps to the policy", async () => {
  const page = await guarded();
  const session = (await page.load(await built("session"))).default as {
    initialize(props: { model: object }): SessionExports;
  };
  const view = (await page.load(await built("view"))).default as {
    render(props: object): Promise<() => void>;
  };
  const model = new FakeModel();
  // Buffers of the page's own, as they come from its kernel.
  const own = {
    get: (key: string) => page.structuredClone(model.get(key)),
    set: (key: string, to: unknown) => model.set(key, to),
    on: (event: string, callback: () => void) => model.on(event, callback),
    off: (event: string, callback: () => void) => model.off(event, callback),
    save_changes: () => model.save_changes(),
  };
  const exports = session.initialize({ model: own });
  const traits: Record<string, unknown> = { session: "session", view: "explorer", height: 0 };
  const el = page.document.body.appendChild(page.document.createElement("div"));
  const close = await view.render({
    el,
    model: { get: (key: string) => traits[key] },
    host: { getWidget: async () => ({ exports }) },
  });
  await expect.poll(() => all(el, "[data-testid=op-row]").length).toBeGreaterThan(5);
  expect(getComputedStyle(get(el, ".tlr-header")).display, "its styles are in force").toBe("flex");
  const size = value(el, "total-size");
  const slider = byName(el, "slider", "Bits of all weights");
  slider.dispatchEvent(new KeyboardEvent("keydown", { key: "End", bubbles: true, cancelable: true }));
  slider.dispatchEvent(new KeyboardEvent("keyup", { key: "End", bubbles: true }));
  await frame();
  expect(value(el, "total-size")).toBeLessThan(size);
  for (const opened of ["Filter by type", "Columns", "Optimize…", "Export"]) {
    const menu = button(el, opened);
    menu.click();
    await frame();
    expect(menu.ariaExpanded, opened).toBe("true");
    menu.click();
    await frame();
  }
  for (const tab of all(el, "[role=tab]")) {
    tab.click();
    await frame();
  }
  // VS Code's ipywidgets bring the variables of a light JupyterLab into every theme.
  const root = page.document.documentElement.style;
  root.setProperty("--jp-layout-color1", "white");
  const background = (): string => getComputedStyle(get(el, ".tlr")).backgroundColor;
  page.document.body.dataset.vscodeThemeKind = "vscode-dark";
  await expect.poll(background).toBe("rgb(22, 25, 31)");
  root.setProperty("--vscode-editor-background", "#1e1e1e");
  expect(background()).toBe("rgb(30, 30, 30)");
  const dark = (): boolean => get(el, ".tlr").hasAttribute("data-dark");
  for (const kind of ["vscode-dark", "vscode-light", "vscode-high-contrast", "vscode-high-contrast-light"]) {
    page.document.body.dataset.vscodeThemeKind = kind;
    await expect.poll(dark, { message: kind }).toBe(!kind.endsWith("light"));
  }
  close();
  expect(page.violations).toEqual([]);
  const loaded = page.performance.getEntriesByType("resource").map((entry) => entry.name);
  expect(loaded.filter((name) => !name.startsWith("blob:"))).toEqual([]);

  // The policy is there: what it forbids is refused, and counted.
  expect(() => page.eval("1")).toThrow();
  await expect.poll(() => page.violations).toEqual(["script-src eval"]);
});
