/** What the view tests share: a mounted view, its parts, and a pointer. */

import session from "../../src/session";
import type { ViewName } from "../../src/views/root";
import { FakeModel } from "../fakeModel";
import type { SyntheticOptions } from "../synthetic";

// A made-up pointer cannot be captured; a real one is.
Element.prototype.setPointerCapture = () => undefined;

export interface Page {
  model: FakeModel;
  el: HTMLElement;
  close(): void;
}

const open: Page[] = [];

export function mount(
  options: SyntheticOptions = {},
  view: ViewName = "explorer",
  width = 1230,
  height = 0,
): Page {
  const model = new FakeModel(options);
  const abort = new AbortController();
  const { mount: draw } = session.initialize({ model, signal: abort.signal });
  const el = document.createElement("div");
  el.style.width = `${width}px`;
  document.body.append(el);
  const dispose = draw(view, el, { height });
  const page = {
    model,
    el,
    close: () => {
      dispose();
      abort.abort();
      el.remove();
    },
  };
  open.push(page);
  return page;
}

export function closeAll(): void {
  for (const page of open.splice(0)) page.close();
}

export const frame = (): Promise<number> => new Promise((resolve) => requestAnimationFrame(resolve));

/** Layout observers have run and what they asked for is drawn. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 4; i++) await frame();
}

export function get<T extends HTMLElement = HTMLElement>(el: ParentNode, selector: string): T {
  const found = el.querySelector<T>(selector);
  if (!found) throw new Error(`nothing matches ${selector}`);
  return found;
}

export const all = (el: ParentNode, selector: string): HTMLElement[] => [
  ...el.querySelectorAll<HTMLElement>(selector),
];
export const byName = (el: ParentNode, role: string, name: string): HTMLElement =>
  get(el, `[role="${role}"][aria-label^="${name}"]`);
export const button = (el: ParentNode, name: string): HTMLButtonElement => {
  const found = [...el.querySelectorAll("button")].find((b) => (b.ariaLabel ?? b.textContent) === name);
  if (!found) throw new Error(`no button ${name}`);
  return found;
};

export const rows = (el: ParentNode): HTMLElement[] =>
  all(el, "[data-testid=op-row]").sort((a, b) => Number(a.ariaRowIndex) - Number(b.ariaRowIndex));
export const row = (el: ParentNode, name: string): HTMLElement => {
  const found = rows(el).find((r) => get(r, ".tlr-cell-name").textContent === name);
  if (!found) throw new Error(`no row ${name}`);
  return found;
};
export const cell = (el: ParentNode, key: string): string => get(el, `.tlr-cell-${key}`).textContent ?? "";
export const value = (el: ParentNode, test: string): number =>
  Number(get(el, `[data-testid=${test}]`).dataset.value);
export const item = (el: ParentNode, name: string): HTMLElement => byName(el, "treeitem", name);

export function point(
  el: Element,
  type: string,
  at: { x: number; y: number },
  extra: PointerEventInit = {},
): void {
  el.dispatchEvent(
    new PointerEvent(type, {
      bubbles: true,
      cancelable: true,
      pointerId: 1,
      button: 0,
      clientX: at.x,
      clientY: at.y,
      ...extra,
    }),
  );
}

/** Middle of the stop with that index. */
export function stopAt(slider: HTMLElement, index: number): { x: number; y: number } {
  const { left, top, width, height } = slider.getBoundingClientRect();
  const inset = Number.parseFloat(getComputedStyle(slider).paddingLeft);
  return {
    x: left + inset + ((width - 2 * inset) * index) / Number(slider.ariaValueMax),
    y: top + height / 2,
  };
}

export function drag(slider: HTMLElement, ...stops: number[]): void {
  const from = slider.getBoundingClientRect();
  point(slider, "pointerdown", stopAt(slider, Number(slider.ariaValueNow)));
  for (const stop of stops) point(slider, "pointermove", stopAt(slider, stop));
  point(slider, "pointerup", { x: from.left, y: from.top });
}

export const press = (el: Element, key: string, extra: KeyboardEventInit = {}): void => {
  el.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...extra }));
  el.dispatchEvent(new KeyboardEvent("keyup", { key, bubbles: true, cancelable: true, ...extra }));
};

export const click = (el: Element, extra: MouseEventInit = {}): void => {
  el.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true, ...extra }));
};

/** A press on the graph's canvas over the middle of a box, by its tree item. */
export function pressBox(el: ParentNode, target: HTMLElement, extra: PointerEventInit = {}): void {
  const canvas = get(el, "[data-testid=graph-canvas]");
  const box = target.getBoundingClientRect();
  const at = { x: box.left + box.width * 0.6, y: box.top + box.height - 4 };
  point(canvas, "pointerdown", at, extra);
  point(canvas, "pointerup", at, extra);
}

/** Double-click on a box of the graph: opens or closes it. */
export async function toggleBox(el: ParentNode, target: HTMLElement): Promise<void> {
  const { left, top, width } = target.getBoundingClientRect();
  get(el, "[data-testid=graph-canvas]").dispatchEvent(
    new MouseEvent("dblclick", { bubbles: true, clientX: left + width / 2, clientY: top + 6 }),
  );
  await settled();
}

/** Mount the views with the stack of layers open, each a box of its own, and room to see them. */
export async function mountOpen(options: SyntheticOptions = {}, view?: ViewName): Promise<Page> {
  const page = mount(options, view, 1230, 1100);
  await settled();
  await toggleBox(page.el, item(page.el, "encoder.layer,"));
  return page;
}

/** Colour of the canvas inside a box, near its lower edge where there is no text. */
export function paint(el: ParentNode, target: HTMLElement): string {
  const canvas = get<HTMLCanvasElement>(el, "[data-testid=graph-canvas]");
  const frameBox = canvas.getBoundingClientRect();
  const box = target.getBoundingClientRect();
  const ratio = canvas.width / frameBox.width;
  const x = Math.round((box.left + box.width / 2 - frameBox.left) * ratio);
  const y = Math.round((box.bottom - 4 - frameBox.top) * ratio);
  return [...canvas.getContext("2d")!.getImageData(x, y, 1, 1).data].join();
}
