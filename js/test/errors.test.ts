import { expect, test } from "vitest";
import { decodeErrors, decodeEvaluations, evaluationOf, planError } from "../src/errors";
import { view } from "./synthetic";

const errors = decodeErrors({
  grade: "estimated",
  what: "kl of the outputs",
  metric: "kl",
  error: view(Float64Array.of(0, 0.5, 2, 0, 0.25, Number.NaN)),
})!;

test("the error of a plan is the sum over its weights, and unknown where one of them is", () => {
  expect(planError(errors, Uint16Array.of(0, 0))).toBe(0);
  expect(planError(errors, Uint16Array.of(2, 1))).toBe(2.25);
  expect(planError(errors, Uint16Array.of(1, 2))).toBeNaN();
  expect(planError(errors, Uint16Array.of(3, 0))).toBeNaN();
  expect(decodeErrors({})).toBeNull();
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
