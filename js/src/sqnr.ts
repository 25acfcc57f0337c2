/** Signal to quantization noise of the weights that ops read, from the errors of a cost table. */

import type { Costs } from "./protocol";

export interface Noise {
  /** squared error over the sum of squares; NaN where it is not known */
  ratio: number;
  /** rounded as coremltools rounds, with nothing clustered */
  exact: boolean;
}

/** Whether any error was found yet. */
export function errorsKnown(costs: Costs): boolean {
  for (const signal of costs.signal) if (!Number.isNaN(signal)) return true;
  return false;
}

/** Of all weights of an op together; null for one that reads none. */
export function opNoise(costs: Costs, scheme: Uint16Array, op: number): Noise | null {
  const { opWeights, opWeightsStart, squaredError, signal, exactError } = costs;
  const [start, end] = [opWeightsStart[op]!, opWeightsStart[op + 1]!];
  if (start === end) return null;
  let [error, squares, exact] = [0, 0, true];
  for (let i = start; i < end; i++) {
    const w = opWeights[i]!;
    error += squaredError[w * costs.schemes.length + scheme[w]!]!;
    squares += signal[w]!;
    if (exactError[scheme[w]!] !== 1) exact = false;
  }
  return { ratio: ratioOf(error, squares), exact };
}

/** Noise over signal; 0 without any error, also of weights that are all zero. */
export const ratioOf = (error: number, squares: number): number =>
  error === 0 && !Number.isNaN(squares) ? 0 : error / squares;

/** Decibels to sort by: what has no error, no weights or is not known comes last when the worst is first. */
export function decibelsOf(noise: Noise | null): number {
  if (!noise || Number.isNaN(noise.ratio) || noise.ratio === 0) return Number.POSITIVE_INFINITY;
  return -10 * Math.log10(noise.ratio);
}

/** Whether the error of a whole plan is exact. */
export const planIsExact = (costs: Costs, scheme: Uint16Array): boolean =>
  scheme.every((s) => costs.exactError[s] === 1);
