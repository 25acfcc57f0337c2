/** Sums of the per-op and per-weight results up the module tree, for the boxes of the graph. */

import type { Priced } from "../estimate";
import type { Costs } from "../protocol";
import type { ModuleTree } from "./collapse";

export const METRICS = ["size", "latency", "bits"] as const;
export type Metric = (typeof METRICS)[number];

/**
 * Position of a share of the largest value on the colour ramp. One embedding often outweighs everything else; the
 * square root keeps the rest apart, and the legend's ticks follow it. Bits are shown as they are.
 */
export const scaled = (metric: Metric, share: number): number =>
  metric === "bits" ? share : Math.sqrt(share);
export const scaleInverse = (metric: Metric, at: number): number => (metric === "bits" ? at : at * at);

export interface ModuleSums {
  bytes: Float64Array;
  ms: Float64Array;
  elements: Float64Array;
}

export const createSums = (modules: number): ModuleSums => ({
  bytes: new Float64Array(modules),
  ms: new Float64Array(modules),
  elements: new Float64Array(modules),
});

/** First op that reads each weight; a shared weight counts there and nowhere else, so shares add up. */
export function weightOwners(costs: Costs): Int32Array {
  const owner = new Int32Array(costs.elements.length).fill(-1);
  for (let op = 0; op + 1 < costs.opWeightsStart.length; op++)
    for (let i = costs.opWeightsStart[op]!; i < costs.opWeightsStart[op + 1]!; i++) {
      const w = costs.opWeights[i]!;
      if (owner[w] === -1) owner[w] = op;
    }
  return owner;
}

export function sumModules(
  costs: Costs,
  tree: ModuleTree,
  owner: Int32Array,
  scheme: Uint16Array,
  priced: Priced,
  out: ModuleSums,
): void {
  const { bytes, ms, elements } = out;
  bytes.fill(0);
  ms.fill(0);
  elements.fill(0);
  const schemes = costs.schemes.length;
  for (let w = 0; w < owner.length; w++) {
    if (owner[w]! < 0) continue;
    const m = tree.opModule[owner[w]!]!;
    bytes[m]! += costs.payloadBytes[w * schemes + scheme[w]!]!;
    elements[m]! += costs.elements[w]!;
  }
  for (let op = 0; op < priced.opMs.length; op++) ms[tree.opModule[op]!]! += priced.opMs[op]!;
  for (let m = bytes.length - 1; m > 0; m--) {
    const p = tree.parent[m]!;
    bytes[p]! += bytes[m]!;
    ms[p]! += ms[m]!;
    elements[p]! += elements[m]!;
  }
}
