import { expect, test } from "vitest";
import {
  type Composed,
  decodeComposed,
  decodeErrors,
  decodeEvaluations,
  evaluationOf,
  planLoss,
} from "../src/errors";
import { view } from "./synthetic";

const errors = decodeErrors({
  revision: 3,
  composes: true,
  grade: "estimated",
  what: "kl of the outputs",
  metric: "kl",
  error: view(Float64Array.of(0, 0.5, 2, 0, 0.25, Number.NaN)),
})!;

const plan = (...scheme: number[]): Uint16Array => Uint16Array.from(scheme);

const NONE = decodeComposed({});

function composed(...plans: [scheme: Uint16Array, loss: number][]): Composed {
  return decodeComposed({
    revision: 3,
    plans: plans.map(([scheme, loss]) => ({ scheme: view(scheme), loss })),
  });
}

test("without anything composed a plan loses the sum over its weights, which is unknown where one of them is", () => {
  expect(planLoss(errors, NONE, plan(0, 0)).value).toBe(0);
  expect(planLoss(errors, NONE, plan(2, 1))).toEqual({ value: 2.25, sum: 2.25, how: "summed" });
  expect(planLoss(errors, NONE, plan(1, 2)).value).toBeNaN();
  expect(planLoss(errors, NONE, plan(3, 0)).value).toBeNaN();
  expect(decodeErrors({})).toBeNull();
});

test("what Python composed of this very plan stands for it", () => {
  const known = composed([plan(2, 1), 3.5], [plan(1, 0), 0.6]);
  expect(planLoss(errors, known, plan(2, 1))).toEqual({ value: 3.5, sum: 2.25, how: "composed" });
  expect(planLoss(errors, known, plan(1, 0)).value).toBe(0.6);
  expect(planLoss(errors, known, plan(1, 2)).value, "of this plan nothing is known").toBeNaN();
});

test("another plan follows the nearest that was composed, by how far off its sum is", () => {
  const known = composed([plan(2, 0), 3], [plan(1, 0), 0.6]);
  expect(planLoss(errors, known, plan(2, 1))).toEqual({ value: (2.25 * 3) / 2, sum: 2.25, how: "followed" });
  expect(planLoss(errors, known, plan(1, 1)).value).toBeCloseTo((0.75 * 0.6) / 0.5, 12);
  expect(planLoss(errors, known, plan(0, 0)).value).toBe(0);
});

test("a plan without errors, or with unknown ones, tells nothing of others", () => {
  const known = composed([plan(0, 0), 0], [plan(1, 2), 7], [plan(1, 9), 7]);
  expect(planLoss(errors, known, plan(1, 1))).toEqual({ value: 0.75, sum: 0.75, how: "summed" });
});

test("plans with one scheme are known from the start", () => {
  const anchored = { ...errors, anchors: composed([plan(1, 1), 0.9]).plans };
  expect(planLoss(anchored, NONE, plan(1, 1))).toEqual({ value: 0.9, sum: 0.75, how: "composed" });
  expect(planLoss(anchored, NONE, plan(1, 0)).value).toBeCloseTo((0.5 * 0.9) / 0.75, 12);
});

test("what was composed by other errors is not looked at", () => {
  const stale = { ...composed([plan(2, 1), 3.5]), revision: 2 };
  expect(planLoss(errors, stale, plan(2, 1)).value).toBe(2.25);
});

test("what was measured stands for the very plan only, int8 activations included", () => {
  const measured = decodeEvaluations([
    {
      metric: "kl",
      value: 0.01,
      values: { all: 0.01 },
      scheme: view(Uint16Array.of(1, 2)),
      int8_ops: view(Int32Array.of(1)),
    },
  ]);
  expect(evaluationOf(measured, Uint16Array.of(1, 2), Uint8Array.of(0, 1, 0))?.value).toBe(0.01);
  expect(evaluationOf(measured, Uint16Array.of(1, 2), Uint8Array.of(0, 0, 1))).toBeNull();
  expect(evaluationOf(measured, Uint16Array.of(1, 2), Uint8Array.of(1, 1, 0))).toBeNull();
  expect(evaluationOf(measured, Uint16Array.of(1, 1), Uint8Array.of(0, 1, 0))).toBeNull();
});
