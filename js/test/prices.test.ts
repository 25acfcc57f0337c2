/** When charts and spoken figures follow a drag. */

import { signal } from "@preact/signals";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Prices } from "../src/prices";
import { decodeCosts } from "../src/protocol";
import { synthetic } from "./synthetic";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("calm figures follow a drag within one of its steps, every 120 ms, and once it pauses", () => {
  const costs = decodeCosts(synthetic({ ops: 50 }).costs);
  const plan = { scheme: costs.start };
  const prices = new Prices(signal(costs), plan, null);
  const told = vi.fn();
  prices.calm.subscribe(told);
  told.mockClear();
  const step = (): number => {
    prices.plan(plan, true);
    return told.mock.calls.length;
  };
  const steps: number[] = [];
  for (let at = 50; at <= 350; at += 50) {
    vi.advanceTimersByTime(50);
    expect(told.mock.calls.length, "nothing between two steps").toBe(steps.at(-1) ?? 0);
    steps.push(step());
  }
  expect(steps).toEqual([0, 0, 1, 1, 1, 2, 2]);
  vi.advanceTimersByTime(120);
  expect(told).toHaveBeenCalledTimes(3);
  expect(prices.calm.value).toBe(prices.totals.value);
  vi.advanceTimersByTime(1000);
  expect(told).toHaveBeenCalledTimes(3);
});
