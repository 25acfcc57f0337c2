/** Where a measurement stands in place of an estimate: for the plan that was measured, op by op, on its device. */

import { expect, test } from "vitest";
import { sortOps } from "../src/filters";
import { measuredOp, measuredPlan, measuredUnit } from "../src/measured";
import type { Wire } from "../src/protocol";
import { Store } from "../src/store";
import { FakeModel } from "./fakeModel";
import { measuredWire, synthetic, view } from "./synthetic";

const made = synthetic();

function opened(measured: Wire = measuredWire(made)): { store: Store; model: FakeModel } {
  const model = new FakeModel();
  const store = new Store(model);
  model.push("measured_state", measured);
  return { store, model };
}
const assign = (store: Store, weight: number, scheme: number): void =>
  store.edits.assign({ weights: [weight], schemes: [scheme], skipped: 0 }, "", "");

test("ops and the whole show it while they are stored as they were", () => {
  const { store } = opened();
  expect(measuredPlan(store)).toEqual({ ms: 2.5, machine: "this Mac" });
  expect(measuredOp(store, 0)).toEqual({ ms: 0.5, machine: "this Mac" });
  expect(measuredUnit(store, 0)).toBe("GPU");
  expect(measuredOp(store, 1)).toBeNull();
  expect(measuredUnit(store, 1)).toBe("");
  const [weight] = store.weightsOf([0]) as unknown as [number];
  assign(store, weight, 3);
  expect(measuredPlan(store)).toBeNull();
  expect(measuredOp(store, 0)).toBeNull();
  expect(measuredOp(store, 2)?.ms).toBe(0.25);
  store.edits.undo();
  expect(measuredPlan(store)?.ms).toBe(2.5);
});

test("it is of a plan, which need not be the loaded one", () => {
  const scheme = new Uint16Array(made.weights);
  const { store } = opened({ ...measuredWire(made), scheme: view(scheme.fill(3, 0, 1)) });
  expect(measuredPlan(store)).toBeNull();
  expect(measuredOp(store, 0)).toBeNull();
  assign(store, 0, 3);
  expect(measuredPlan(store)?.ms).toBe(2.5);
});

test("another device and no measurement at all leave the estimates", () => {
  const { store, model } = opened({ ...measuredWire(made), device: "Mac" });
  expect(measuredPlan(store)).toBeNull();
  expect(measuredOp(store, 0)).toBeNull();
  model.push("measured_state", {});
  expect(store.measured.value).toBeNull();
});

test("the table sorts by what it shows", () => {
  const { store } = opened();
  expect(Array.from(sortOps(store, [{ key: "latency", descending: true }])).slice(0, 2)).toEqual([0, 2]);
});
