/** Parity with estimate.py on the fixtures that Python writes and both sides read. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { nextSteps, weightErrors } from "../src/charts/weights";
import { BOUNDS, createPriced, partsOf, price } from "../src/estimate";
import { decodeCosts, type Wire } from "../src/protocol";

interface PlanCase {
  scheme: number[];
  int8: number[];
  weight_file_bytes: number;
  size_bytes: number;
  bits_per_weight: number;
  latency_ms: number;
  weight_error: number;
  latency_interval: [number, number];
  peak_memory_bytes: number;
  energy_mj: number;
  energy_interval: [number, number];
  op_ms: number[];
  bound: string[];
  op_weight_bytes: number[];
  steps_down: [weight: number, scheme: number][];
}

const file = new URL("../../tests/fixtures/estimates.json", import.meta.url);
const { cases } = JSON.parse(readFileSync(file, "utf8")) as {
  cases: { name: string; costs: Wire; plans: PlanCase[] }[];
};

const near = (actual: number, expected: number, what: string): void => {
  const tolerance = 1e-9 * Math.max(Math.abs(expected), Number.MIN_VALUE);
  expect(Math.abs(actual - expected), `${what}: ${actual} and ${expected}`).toBeLessThanOrEqual(tolerance);
};

test("the fixture has cases", () => {
  expect(cases.length).toBeGreaterThan(0);
  expect(cases.some((c) => c.plans.length > 1)).toBe(true);
});

describe.each(cases)("$name", ({ costs: raw, plans }) => {
  const costs = decodeCosts(raw);
  // One result object for all plans, as in the store: nothing of one plan may leak into the next.
  const out = createPriced(costs);
  test.each(plans.map((plan, i) => [i, plan] as const))("plan %i", (_, plan) => {
    price(costs, Uint16Array.from(plan.scheme), out, Uint8Array.from(plan.int8));
    near(out.weightFileBytes, plan.weight_file_bytes, "weight.bin");
    near(out.sizeBytes, plan.size_bytes, "size");
    near(out.bitsPerWeight, plan.bits_per_weight, "bits");
    near(out.weightError, plan.weight_error, "weight error");
    near(out.latencyMs, plan.latency_ms, "latency");
    near(out.lowMs, plan.latency_interval[0], "low");
    near(out.highMs, plan.latency_interval[1], "high");
    near(out.peakMemoryBytes, plan.peak_memory_bytes, "peak memory");
    near(out.energyMj, plan.energy_mj, "energy");
    near(out.lowMj, plan.energy_interval[0], "low energy");
    near(out.highMj, plan.energy_interval[1], "high energy");
    expect(out.opMs.length).toBe(plan.op_ms.length);
    plan.op_ms.forEach((ms, op) => {
      near(out.opMs[op]!, ms, `op ${op} ms`);
      near(out.opBytes[op]!, plan.op_weight_bytes[op]!, `op ${op} bytes`);
      expect(BOUNDS[out.bound[op]!]).toBe(plan.bound[op]);
      const parts = partsOf(costs, Uint16Array.from(plan.scheme), op, Uint8Array.from(plan.int8));
      near(
        parts.launch + Math.max(parts.compute, parts.weights + parts.activations),
        ms,
        `parts of op ${op}`,
      );
    });
  });
});

test.each(cases)(
  "$name: what did not change is not found again, and comes to the same",
  ({ costs: raw, plans }) => {
    const costs = decodeCosts(raw);
    const kept = createPriced(costs);
    const scheme = costs.start.slice();
    const changes = plans.flatMap((plan) => plan.scheme.map((s, w) => [w, s] as const));
    for (const [w, s] of changes.slice(0, 24)) {
      scheme[w] = s;
      const fresh = createPriced(costs);
      price(costs, scheme, kept);
      price(costs, scheme, fresh);
      expect(kept).toEqual(fresh);
    }
  },
);

test.each(cases)("$name: the next steps down are those of figures.py", ({ costs: raw, plans }) => {
  const costs = { ...decodeCosts(raw), offered: new Uint8Array(64).fill(1) };
  for (const { scheme, steps_down } of plans) {
    const steps = nextSteps(costs, weightErrors(costs, null), Uint16Array.from(scheme));
    expect(steps.map((step) => [step.weight, step.scheme])).toEqual(steps_down);
  }
});

test("the weight error is unknown while that of any weight is", () => {
  const costs = decodeCosts(cases[cases.length - 1]!.costs);
  const scheme = new Uint16Array(costs.elements.length);
  const out = createPriced(costs);
  price(costs, scheme, out);
  expect(out.weightError).toBe(0);
  costs.squaredError[costs.schemes.length] = Number.NaN;
  const another = createPriced(costs);
  price(costs, scheme, another);
  expect(another.weightError).toBeNaN();
});
