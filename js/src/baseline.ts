/** Plans kept under a name, and what every change on screen is measured against. */

import { type HistoryState, stateAt } from "./history";
import { text, u8, u16, type Wire, wire, wires } from "./protocol";

export interface KeptPlan {
  name: string;
  scheme: Uint16Array;
  int8: Uint8Array;
}

/** null for nothing, and for a plan of another model. */
export function decodeKept(value: unknown, weights: number): KeptPlan | null {
  const raw = wire(value);
  const scheme = u16(raw.scheme);
  if (raw.name === undefined || scheme.length !== weights) return null;
  return { name: text(raw.name), scheme, int8: u8(raw.int8) };
}

export const decodeSnapshots = (value: unknown, weights: number): KeptPlan[] =>
  wires(value).flatMap((raw) => decodeKept(raw, weights) ?? []);

export const packKept = (kept: KeptPlan | null): Wire =>
  kept ? { name: kept.name, scheme: Array.from(kept.scheme), int8: Array.from(kept.int8) } : { name: "" };

export function stepName(history: HistoryState, cursor: number): string {
  return cursor === 0 ? "the start" : `step ${cursor}: ${history.entries[cursor - 1]?.label || "an edit"}`;
}

/** The plan after so many steps of the history. */
export function afterStep(history: HistoryState, cursor: number): KeptPlan {
  const { scheme, int8 } = stateAt(history, cursor);
  return { name: stepName(history, cursor), scheme, int8 };
}

const equal = (a: ArrayLike<number>, b: ArrayLike<number>): boolean => {
  for (let i = 0; i < Math.max(a.length, b.length); i++) if ((a[i] ?? 0) !== (b[i] ?? 0)) return false;
  return true;
};

export const samePlan = (
  a: Pick<KeptPlan, "scheme" | "int8">,
  b: Pick<KeptPlan, "scheme" | "int8">,
): boolean => equal(a.scheme, b.scheme) && equal(a.int8, b.int8);
