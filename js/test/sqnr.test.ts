/** Errors of weights in decibels: what is summed, what is exact, and what is not known. */

import { expect, test } from "vitest";
import { decodeCosts, decodeProgram } from "../src/protocol";
import { decibelsOf, errorsKnown, noiseText, opNoise, unknownError, weightsNoise } from "../src/sqnr";
import { synthetic } from "./synthetic";

const made = synthetic({ errors: true });
const costs = decodeCosts(made.costs);
const program = decodeProgram(made.program);
const scheme = (key: string): number => costs.schemes.findIndex((s) => s.key === key);
const dense = program.ops.name.indexOf("encoder_layer_0_output_dense");
const weight = program.weights.name.indexOf("encoder_layer_0_output_dense_weight");
const plan = (key: string): Uint16Array => {
  const chosen = new Uint16Array(made.weights);
  chosen[weight] = scheme(key);
  return chosen;
};

test("an op's noise is that of all its weights over all their squares", () => {
  const [elements, bias] = [costs.elements[weight]!, costs.elements[weight + 1]!];
  const noise = opNoise(costs, plan("palettize-4"), dense)!;
  expect(noise.ratio).toBeCloseTo((elements * 4 ** -4) / (elements + bias), 12);
  expect(noise.exact).toBe(false);
  expect(opNoise(costs, plan("linear-8"), dense)!.exact).toBe(true);
  expect(decibelsOf(noise)).toBeCloseTo(-10 * Math.log10(noise.ratio), 12);
});

test("in words: exact ones plain, estimated ones with a sign, unknown ones as being found or not", () => {
  const unknown = unknownError({ running: true, refusal: "" }, true);
  const several = weightsNoise(costs, plan("palettize-4"), [weight, weight + 1]);
  expect(noiseText(several, unknown)).toMatch(/^≈\d/);
  expect(noiseText(opNoise(costs, plan("linear-8"), dense), unknown)).toMatch(/^\d/);
  expect(noiseText(opNoise(costs, plan("float16-16"), dense), unknown)).toBe("none");
  expect(noiseText({ ratio: Number.NaN, exact: false }, unknown)).toBe("being found");
  expect(
    noiseText({ ratio: Number.NaN, exact: false }, unknownError({ running: true, refusal: "" }, false)),
  ).toBe("not known");
  expect(noiseText(null, unknown)).toBe("");
});

test("without an error, without weights, and before it is known", () => {
  expect(opNoise(costs, plan("float16-16"), dense)).toEqual({ ratio: 0, exact: true });
  expect(opNoise(costs, plan("float16-16"), program.ops.opType.indexOf("softmax"))).toBeNull();
  expect(errorsKnown(costs)).toBe(true);
  const unknown = decodeCosts({
    ...made.costs,
    signal: costs.signal.map(() => Number.NaN),
    squared_error: costs.squaredError.map(() => Number.NaN),
  });
  expect(errorsKnown(unknown)).toBe(false);
  const noise = opNoise(unknown, plan("palettize-4"), dense);
  expect(noise?.ratio).toBeNaN();
  expect(decibelsOf(noise)).toBe(Number.POSITIVE_INFINITY);
});
