/** Errors of outputs: what schemes are expected to add, summed over a plan, and what was measured of whole plans. */

import { f64, i32, number, text, u16, type Wire, wire, wires } from "./protocol";

/** `session.error`: what each scheme of each weight does, in numbers that add. */
export interface Errors {
  /** "weight", "estimated" or "measured" */
  grade: string;
  /** what the number is, in words */
  what: string;
  /** name of the metric, or "" */
  metric: string;
  /** per weight and scheme, in the columns of the cost table; NaN where it is not known */
  error: Float64Array;
}

/** What `tnb.evaluate` measured of one plan. */
export interface Evaluated {
  metric: string;
  value: number;
  /** whether 0 is no change and lower is better; of a user's own number neither may hold */
  isLoss: boolean;
  /** group → number, for data in groups */
  values: Record<string, number>;
  scheme: Uint16Array;
  int8Ops: Int32Array;
}

export function decodeErrors(value: unknown): Errors | null {
  const raw = wire(value);
  if (raw.error === undefined) return null;
  return { grade: text(raw.grade), what: text(raw.what), metric: text(raw.metric), error: f64(raw.error) };
}

export const decodeEvaluations = (value: unknown): Evaluated[] =>
  wires(value).map((raw: Wire) => ({
    metric: text(raw.metric),
    value: number(raw.value),
    isLoss: raw.is_loss !== false,
    values: wire(raw.values) as Record<string, number>,
    scheme: u16(raw.scheme),
    int8Ops: i32(raw.int8_ops),
  }));

/** Sum over a plan; NaN where the error of some weight is not known, as of a scheme that came later. */
export function planError(errors: Errors, scheme: Uint16Array): number {
  const schemes = errors.error.length / scheme.length;
  let sum = 0;
  for (let w = 0; w < scheme.length; w++)
    sum += scheme[w]! < schemes ? errors.error[w * schemes + scheme[w]!]! : Number.NaN;
  return sum;
}

/** What was measured of this very plan, or null. */
export function evaluationOf(
  evaluations: readonly Evaluated[],
  scheme: Uint16Array,
  int8: Uint8Array,
): Evaluated | null {
  if (evaluations.length === 0) return null;
  const eight = int8.reduce((count, flag) => count + flag, 0);
  const same = (e: Evaluated): boolean =>
    e.int8Ops.length === eight &&
    e.int8Ops.every((op) => int8[op]) &&
    e.scheme.every((s, w) => s === scheme[w]);
  return evaluations.find(same) ?? null;
}
