/** Errors of single weights for the charts: of the outputs where the session has them, of the weights elsewhere. */

import type { Errors } from "../errors";
import type { Costs } from "../protocol";
import { canTake } from "../schemes";

export interface WeightErrors {
  /** "weight", "estimated" or "measured" */
  grade: string;
  what: string;
  /** of a weight under a scheme; NaN where it is not known */
  of(weight: number, scheme: number): number;
}

export function weightErrors(costs: Costs, errors: Errors | null): WeightErrors {
  const weights = costs.elements.length;
  if (errors) {
    const schemes = errors.error.length / weights;
    return {
      grade: errors.grade,
      what: errors.metric || errors.what,
      of: (w, s) => (s < schemes ? errors.error[w * schemes + s]! : Number.NaN),
    };
  }
  const schemes = costs.schemes.length;
  return {
    grade: "weight",
    what: "noise to signal",
    of: (w, s) => {
      const error = costs.squaredError[w * schemes + s] ?? Number.NaN;
      return error === 0 ? 0 : error / (costs.signal[w]! || 1);
    },
  };
}

/** Sum over a plan, as Python's allocator adds; `planLoss` says more where the session has errors of outputs. */
export function planErrorOf(errors: WeightErrors, scheme: Uint16Array): number {
  let sum = 0;
  for (let w = 0; w < scheme.length; w++) sum += errors.of(w, scheme[w]!);
  return sum;
}

/** Ops that read each weight. */
export function readersOf(costs: Costs): number[][] {
  const readers: number[][] = Array.from({ length: costs.elements.length }, () => []);
  for (let op = 0; op + 1 < costs.opWeightsStart.length; op++)
    for (let i = costs.opWeightsStart[op]!; i < costs.opWeightsStart[op + 1]!; i++)
      readers[costs.opWeights[i]!]!.push(op);
  return readers;
}

/** The next step down of one weight that adds least error for what it saves. */
export interface NextStep {
  weight: number;
  scheme: number;
  /** error that it adds, and bytes that it saves */
  error: number;
  bytes: number;
}

/**
 * Next steps of all weights that have one, most error for a bit saved first: where not to save. `steps_down` of
 * figures.py, held to it by tests/fixtures/estimates.json.
 */
export function nextSteps(costs: Costs, errors: WeightErrors, scheme: Uint16Array): NextStep[] {
  const schemes = costs.schemes.length;
  const found: NextStep[] = [];
  for (let weight = 0; weight < scheme.length; weight++) {
    const now = scheme[weight]!;
    const [size, error] = [costs.payloadBytes[weight * schemes + now]!, errors.of(weight, now)];
    let best: NextStep | null = null;
    for (let s = 0; s < schemes; s++) {
      const bytes = size - costs.payloadBytes[weight * schemes + s]!;
      if (s === now || bytes <= 0 || !canTake(costs, weight, s, scheme)) continue;
      const added = Math.max(0, errors.of(weight, s) - error);
      if (Number.isNaN(added)) continue;
      if (!best || added * best.bytes < best.error * bytes) best = { weight, scheme: s, error: added, bytes };
    }
    if (best) found.push(best);
  }
  return found.sort((a, b) => b.error / b.bytes - a.error / a.bytes);
}
