/** Steps of a drag that are taken in idle time: all that a step does is done, and nobody sees or hears of it. */

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { rehearse } from "../../src/rehearsal";
import { Store } from "../../src/store";
import { FakeModel } from "../fakeModel";
import { byName, closeAll, drag, frame, get, mount, value } from "./page";

/** What waits for the browser to be idle. */
let waiting: Map<number, IdleRequestCallback>;

/** Let the browser be idle for so long, as often as anything waits for that. */
function idle(ms: number, times = 10): number {
  let steps = 0;
  for (; waiting.size > 0 && steps < times; steps++) {
    const [id, callback] = [...waiting][0]!;
    waiting.delete(id);
    callback({ didTimeout: false, timeRemaining: () => ms });
  }
  return steps;
}

/** Histograms and spoken figures, which wait for the end of a drag, have come: nothing has changed for a while. */
async function rest(): Promise<void> {
  let before = "";
  for (let now = document.body.innerHTML; now !== before; now = document.body.innerHTML) {
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

beforeEach(() => {
  waiting = new Map();
  let asked = 0;
  vi.stubGlobal("requestIdleCallback", (callback: IdleRequestCallback) => {
    waiting.set(++asked, callback);
    return asked;
  });
  vi.stubGlobal("cancelIdleCallback", (id: number) => waiting.delete(id));
});
afterEach(() => {
  closeAll();
  vi.unstubAllGlobals();
});

test("shows the same before and after, and sends nothing", async () => {
  const { el, model } = mount();
  await rest();
  const canvas = get<HTMLCanvasElement>(el, "[data-testid=graph-canvas]");
  const seen = (): string[] => [el.innerHTML, canvas.toDataURL()];
  const before = seen();
  const made = vi.fn();
  const observer = new MutationObserver(made);
  observer.observe(el, { subtree: true, childList: true });
  expect(idle(50)).toBeGreaterThan(1);
  await rest();
  observer.disconnect();
  expect(seen()).toEqual(before);
  expect(made, "elements that come or go").not.toHaveBeenCalled();
  expect([model.saves, model.edits]).toEqual([0, []]);

  const size = value(el, "total-size");
  drag(byName(el, "slider", "Bits of all weights"), 3);
  await frame();
  expect(value(el, "total-size")).toBeLessThan(size);
  expect(model.edits.length).toBe(1);
});

test("takes every step of it through prices and views, and leaves plan and history as they were", () => {
  const store = new Store(new FakeModel({ ops: 500 }));
  const { edits, prices } = store;
  const priced: number[] = [];
  prices.totals.subscribe(({ sizeBytes }) => priced.push(sizeBytes));
  const history = edits.history.value;
  const before = JSON.stringify([prices.totals.value, prices.calm.value, [...prices.live.opMs]]);
  rehearse(store);
  const steps = idle(50);
  expect(edits.history.value).toBe(history);
  expect(JSON.stringify([prices.totals.value, prices.calm.value, [...prices.live.opMs]])).toBe(before);
  expect([edits.canUndo.value, edits.gesturing.value, edits.unheard]).toEqual([false, false, 0]);
  const [whole] = priced;
  expect(priced.filter((bytes) => bytes < whole!).length).toBe(steps);
});

test("waits for time enough, leaves a person's drag alone, and ends with the session", () => {
  const store = new Store(new FakeModel({ ops: 500 }));
  const { edits, prices } = store;
  const stop = rehearse(store);
  const priced = vi.fn();
  prices.totals.subscribe(priced);
  priced.mockClear();
  expect(idle(5)).toBe(10);
  expect(priced).not.toHaveBeenCalled();
  edits.begin();
  idle(50, 1);
  expect(edits.gesturing.value).toBe(true);
  expect(priced).not.toHaveBeenCalled();
  edits.end();
  stop();
  expect(idle(50)).toBe(0);
});
