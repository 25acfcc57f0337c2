/** The Pareto front as Python sends it: the best plans over a range of budgets, and those with one scheme everywhere. */

import { f64, text, texts, u16, type Wire } from "../protocol";

export const ALONG = ["bits", "size", "latency"] as const;
export type Along = (typeof ALONG)[number];

export interface FrontPoint {
  /** "" for one of the best plans, else the scheme that is everywhere */
  uniform: string;
  amount: number;
  error: number;
  scheme: Uint16Array;
}

export interface Front {
  along: Along;
  grade: string;
  what: string;
  points: FrontPoint[];
}

export function decodeFront(raw: Wire): Front {
  const [amount, error, scheme] = [f64(raw.amount), f64(raw.error), u16(raw.scheme)];
  const weights = amount.length > 0 ? scheme.length / amount.length : 0;
  return {
    along: text(raw.along) as Along,
    grade: text(raw.grade),
    what: text(raw.what),
    points: texts(raw.uniform).map((uniform, p) => ({
      uniform,
      amount: amount[p]!,
      error: error[p]!,
      scheme: scheme.slice(p * weights, (p + 1) * weights),
    })),
  };
}
