/** Signal to quantization noise of the weights that ops read, from the errors of a cost table. */

import * as format from "./format";
import { type Costs, text, wire } from "./protocol";

/** How far Python is with the errors of weights, which it looks for in the background. */
export interface Sweep {
  running: boolean;
  /** why they cannot be found, or "" */
  refusal: string;
}

/** What is said in place of an error that is not known. */
export interface Unknown {
  short: string;
  /** in every row of a table, where words would be a wall of them */
  sign: string;
  title: string;
}

export function decodeSweep(value: unknown): Sweep {
  const raw = wire(value);
  return { running: raw.running === true, refusal: text(raw.refusal) };
}

/** @param coming whether Python is there and looks for more */
export function unknownError({ running, refusal }: Sweep, coming: boolean): Unknown {
  if (coming)
    return {
      short: "being found",
      sign: "…",
      title: "The kernel is looking at the weights; errors show as it is done.",
    };
  const title = refusal
    ? `Errors of the weights cannot be found: ${refusal}.`
    : running
      ? "Errors of the weights were not found yet when the kernel went away."
      : "Errors of the weights were not looked for: session.find_errors() does.";
  return { short: "not known", sign: "–", title };
}

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
  const { opWeights, opWeightsStart } = costs;
  return weightsNoise(costs, scheme, opWeights.subarray(opWeightsStart[op]!, opWeightsStart[op + 1]!));
}

/** Of several weights together; null for none. */
export function weightsNoise(costs: Costs, scheme: Uint16Array, weights: ArrayLike<number>): Noise | null {
  const { squaredError, signal, exactError } = costs;
  if (weights.length === 0) return null;
  let [error, squares, exact] = [0, 0, true];
  for (let i = 0; i < weights.length; i++) {
    const w = weights[i]!;
    error += squaredError[w * costs.schemes.length + scheme[w]!]!;
    squares += signal[w]!;
    if (exactError[scheme[w]!] !== 1) exact = false;
  }
  return { ratio: ratioOf(error, squares), exact };
}

/** Noise over signal; 0 without any error, also of weights that are all zero. */
export const ratioOf = (error: number, squares: number): number =>
  error === 0 && !Number.isNaN(squares) ? 0 : error / squares;

/** As it is shown: with "≈" where tables are clustered, and nothing without weights. */
export function noiseText(noise: Noise | null, unknown: Unknown): string {
  if (!noise) return "";
  if (Number.isNaN(noise.ratio)) return unknown.short;
  return (noise.exact || noise.ratio === 0 ? "" : format.ABOUT) + format.decibels(noise.ratio);
}

/** How it is known, and why not. */
export function noiseCertainty(noise: Noise, unknown: Unknown): string {
  if (Number.isNaN(noise.ratio)) return unknown.title;
  return noise.exact || noise.ratio === 0
    ? "Exact."
    : "Estimated: of our tables; coremltools' may be 0.3\u202fdB worse.";
}

/** Decibels to sort by: what has no error, no weights or is not known comes last when the worst is first. */
export function decibelsOf(noise: Noise | null): number {
  if (!noise || Number.isNaN(noise.ratio) || noise.ratio === 0) return Number.POSITIVE_INFINITY;
  return -10 * Math.log10(noise.ratio);
}

/** Whether the error of a whole plan is exact. */
export const planIsExact = (costs: Costs, scheme: Uint16Array): boolean =>
  scheme.every((s) => costs.exactError[s] === 1);
