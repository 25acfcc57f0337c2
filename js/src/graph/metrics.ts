/** What the boxes of the graph can be coloured by, and the sums of it up the module tree. */

import type { Priced } from "../estimate";
import * as format from "../format";
import type { Costs } from "../protocol";
import type { ModuleTree } from "./collapse";

export const METRICS = [
  "size",
  "latency",
  "error",
  "bits",
  "FLOPs",
  "change of size",
  "change of latency",
] as const;
export type Metric = (typeof METRICS)[number];

/** Decibels at the quiet end of the scale of errors; its other end is 0 dB: as much noise as signal. */
const QUIET_DB = 60;
const MOST_BITS = 16;

/** Whether a metric has a middle, so that its scale has two hues. */
export const isDiverging = (metric: Metric): boolean => metric.startsWith("change");

/** How each number of a metric is known. */
export const certainty = (metric: Metric): string =>
  metric === "latency" || metric === "change of latency" || metric === "error" ? "estimated" : "exact";

/**
 * Position of a value on the colour scale, 0…1; NaN stays NaN. One embedding often outweighs everything else: the
 * square root keeps the rest apart, and the legend's ticks follow it. `most` is the largest value, where that is not
 * given by the metric.
 */
export function position(metric: Metric, value: number, most: number): number {
  const within = (at: number): number => (Number.isNaN(at) ? at : Math.min(1, Math.max(0, at)));
  if (metric === "bits") return within(value / MOST_BITS);
  if (metric === "error") return within(1 + (10 * Math.log10(value)) / QUIET_DB);
  if (isDiverging(metric)) return within(0.5 + 0.5 * Math.sign(value) * Math.sqrt(Math.abs(value)));
  return most > 0 ? within(Math.sqrt(value / most)) : 0;
}

/** The value at a position: what the ticks of the legend read. */
export function valueAt(metric: Metric, at: number, most: number): number {
  if (metric === "bits") return at * MOST_BITS;
  if (metric === "error") return 10 ** (((at - 1) * QUIET_DB) / 10);
  if (isDiverging(metric)) return Math.sign(at - 0.5) * (2 * at - 1) ** 2;
  return at * at * most;
}

/** A value as it reads, with its unit. */
export function say(metric: Metric, value: number): string {
  if (Number.isNaN(value)) return "";
  if (metric === "size") return format.bytes(value);
  if (metric === "latency") return `${format.ABOUT}${format.milliseconds(value)}${format.THIN}ms`;
  if (metric === "bits") return format.inBits(value, format.THIN);
  if (metric === "error") return value === 0 ? "no error" : format.decibels(value);
  if (metric === "FLOPs") return format.flops(value);
  return format.percentChange(1, 1 + value) || `0${format.THIN}%`;
}

/** What a plan comes to, by module. */
export interface Sums {
  bytes: Float64Array;
  ms: Float64Array;
  /** squared error of the weights */
  error: Float64Array;
}

export const createSums = (count: number): Sums => ({
  bytes: new Float64Array(count),
  ms: new Float64Array(count),
  error: new Float64Array(count),
});

/** What does not depend on the plan. */
export interface Fixed {
  /** module that each weight counts in: that of the first op that reads it and no other, so that shares add up; or -1 */
  module: Int32Array;
  /** by module: elements of weights, and their sum of squares */
  elements: Float64Array;
  squares: Float64Array;
}

export function fixedOf(costs: Costs, tree: ModuleTree): Fixed {
  const module = new Int32Array(costs.elements.length).fill(-1);
  const elements = new Float64Array(tree.path.length);
  const squares = new Float64Array(tree.path.length);
  for (let op = 0; op + 1 < costs.opWeightsStart.length; op++)
    for (let i = costs.opWeightsStart[op]!; i < costs.opWeightsStart[op + 1]!; i++) {
      const w = costs.opWeights[i]!;
      if (module[w] !== -1) continue;
      const m = tree.opModule[op]!;
      module[w] = m;
      elements[m]! += costs.elements[w]!;
      squares[m]! += costs.signal.length > 0 ? costs.signal[w]! : Number.NaN;
    }
  rollUp(tree, elements, squares);
  return { module, elements, squares };
}

/** Add what is in each module to the module around it, from the leaves up. */
export function rollUp(tree: ModuleTree, ...columns: Float64Array[]): void {
  for (const column of columns)
    for (let m = column.length - 1; m > 0; m--) column[tree.parent[m]!]! += column[m]!;
}

export function sumModules(tree: ModuleTree, { module }: Fixed, priced: Priced, out: Sums): void {
  const { bytes, ms, error } = out;
  const { opMs, weightBytes, weightSquares } = priced;
  for (const column of [bytes, ms, error]) column.fill(0);
  for (let w = 0; w < module.length; w++) {
    const m = module[w]!;
    if (m < 0) continue;
    bytes[m]! += weightBytes[w]!;
    error[m]! += weightSquares[w]!;
  }
  const { opModule } = tree;
  for (let op = 0; op < opMs.length; op++) ms[opModule[op]!]! += opMs[op]!;
  rollUp(tree, bytes, ms, error);
}
