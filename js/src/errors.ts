/** Errors of outputs: what schemes are expected to add, what whole plans lose by that, and what was measured of plans. */

import { f64, i32, number, text, u16, type Wire, wire, wires } from "./protocol";

/** `session.error`: what each scheme of each weight does, in numbers that add. */
export interface Errors {
  /** another number for other errors */
  revision: number;
  /** whether Python knows better than by their sum what a plan loses */
  composes: boolean;
  /** what that is for plans with one scheme wherever it is legal; `Composed` has it of others */
  anchors: Known[];
  /** "weight", "estimated" or "measured" */
  grade: string;
  /** what the number is, in words */
  what: string;
  /** name of the metric, or "" */
  metric: string;
  /** per weight and scheme, in the columns of the cost table; NaN where it is not known */
  error: Float64Array;
}

/** What Python composed of one whole plan. */
interface Known {
  scheme: Uint16Array;
  loss: number;
}

/** The same once edits had come to rest: of the current plan, and of what it is compared with. */
export interface Composed {
  /** of the errors by which it was composed */
  revision: number;
  plans: Known[];
}

/** What a plan is expected to lose. */
export interface PlanLoss {
  /** NaN where the error of some weight is not known, as of a scheme that came later */
  value: number;
  /** errors of its weights, added up */
  sum: number;
  /** "composed" by Python of this very plan; "followed" from the nearest plan of which it was; else the plain sum */
  how: "composed" | "followed" | "summed";
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
  return {
    revision: number(raw.revision),
    composes: Boolean(raw.composes),
    anchors: decodeKnown(raw.anchors),
    grade: text(raw.grade),
    what: text(raw.what),
    metric: text(raw.metric),
    error: f64(raw.error),
  };
}

export function decodeComposed(value: unknown): Composed {
  const raw = wire(value);
  return { revision: number(raw.revision), plans: decodeKnown(raw.plans) };
}

const decodeKnown = (value: unknown): Known[] =>
  wires(value).map((raw) => ({ scheme: u16(raw.scheme), loss: number(raw.loss) }));

export const decodeEvaluations = (value: unknown): Evaluated[] =>
  wires(value).map((raw: Wire) => ({
    metric: text(raw.metric),
    value: number(raw.value),
    isLoss: raw.is_loss !== false,
    values: wire(raw.values) as Record<string, number>,
    scheme: u16(raw.scheme),
    int8Ops: i32(raw.int8_ops),
  }));

/**
 * What a plan is expected to lose, as far as that is known without the kernel: what Python composed of this very plan;
 * else its sum, times how far what was composed of the nearest plan is from the sum of that one; else its sum.
 */
export function planLoss(errors: Errors, composed: Composed, scheme: Uint16Array): PlanLoss {
  const schemes = errors.error.length / scheme.length;
  const of = (w: number, s: number): number => (s < schemes ? errors.error[w * schemes + s]! : Number.NaN);
  let sum = 0;
  for (let w = 0; w < scheme.length; w++) sum += of(w, scheme[w]!);
  const summed: PlanLoss = { value: sum, sum, how: "summed" };
  if (!(sum > 0)) return summed;
  const composedNow = composed.revision === errors.revision ? composed.plans : [];
  let times = Number.NaN;
  let nearest = Number.POSITIVE_INFINITY;
  for (const plan of [...composedNow, ...errors.anchors]) {
    let theirs = 0;
    let away = 0;
    let same = true;
    for (let w = 0; w < scheme.length; w++) {
      const error = of(w, plan.scheme[w]!);
      theirs += error;
      if (plan.scheme[w] === scheme[w]) continue;
      same = false;
      away += Math.abs(error - of(w, scheme[w]!));
    }
    if (same) return { value: plan.loss, sum, how: "composed" };
    if (!(away < nearest) || !(theirs > 0)) continue;
    nearest = away;
    times = plan.loss / theirs;
  }
  return Number.isNaN(times) ? summed : { value: sum * times, sum, how: "followed" };
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
