import { describe, expect, test } from "vitest";
import { type BudgetSteps, planFor } from "../src/optimize";

/** Two weights in one group, one alone, one without a choice; 8 bits each step. */
const STEPS: BudgetSteps = {
  scheme: Uint16Array.of(5, 5, 5, 0),
  least: 10,
  most: 27,
  members: [[0, 1], [2]],
  group: Int32Array.of(0, 1, 0, 1),
  column: Uint16Array.of(4, 4, 3, 2),
  cost: Float64Array.of(4, 10, 2, 1),
};

describe("a plan from the steps", () => {
  test.each([
    [9, [5, 5, 5, 0], "below the least there is only the cheapest"],
    [10, [5, 5, 5, 0], "the cheapest"],
    [14, [4, 4, 5, 0], "all weights of a group go together"],
    [16, [3, 3, 5, 0], "what does not fit is passed over, and the rest is filled up"],
    [24, [4, 4, 4, 0], "in order"],
    [27, [3, 3, 2, 0], "everything"],
  ])("within %d: %j (%s)", (budget, expected) => {
    expect([...planFor(STEPS, budget)]).toEqual(expected);
  });

  test("a group that was passed over takes no later step, and the steps stay as they are", () => {
    // The second step of weight 2 would fit, but it follows one that does not.
    expect([...planFor(STEPS, 17)]).toEqual([3, 3, 5, 0]);
    expect([...STEPS.scheme]).toEqual([5, 5, 5, 0]);
  });

  test("takes well below a frame at 1,000 weights of 27 steps", () => {
    const weights = 1000;
    const count = weights * 27;
    const many: BudgetSteps = {
      scheme: new Uint16Array(weights),
      least: 0,
      most: count,
      members: Array.from({ length: weights }, (_, w) => [w]),
      group: Int32Array.from({ length: count }, (_, s) => s % weights),
      column: Uint16Array.from({ length: count }, (_, s) => Math.floor(s / weights)),
      cost: new Float64Array(count).fill(1),
    };
    const begin = performance.now();
    for (let i = 0; i < 20; i++) planFor(many, (count * i) / 20);
    expect((performance.now() - begin) / 20).toBeLessThan(16);
  });
});
