/** What each step of the history came to. */

import { createPriced, type Priced, price, type Totals, totalsOf } from "../estimate";
import { type HistoryState, stateAt } from "../history";
import type { Costs } from "../protocol";

export interface Step {
  /** how many steps are applied there */
  cursor: number;
  label: string;
  totals: Totals;
}

/** A plan's totals are found once for each cost table. */
const known = new WeakMap<Costs, Map<string, Totals>>();

/** Totals before the first step and after each. */
export function stepsOf(costs: Costs, history: HistoryState): Step[] {
  const found = known.get(costs) ?? new Map<string, Totals>();
  known.set(costs, found);
  const used = new Map<string, Totals>();
  let scratch: Priced | null = null;
  let at = stateAt(history, 0);
  const steps: Step[] = [];
  for (let cursor = 0; cursor <= history.entries.length; cursor++) {
    at = stateAt(at, cursor);
    const key = `${hash(at.scheme)}/${hash(at.int8)}`;
    let totals = found.get(key);
    if (!totals) {
      scratch ??= createPriced(costs);
      price(costs, at.scheme, scratch, at.int8);
      totals = totalsOf(scratch);
    }
    used.set(key, totals);
    steps.push({ cursor, label: history.entries[cursor - 1]?.label || "edit", totals });
  }
  known.set(costs, used);
  return steps;
}

/** Two of 32 bits: FNV-1a and a multiplicative one. */
function hash(values: Uint16Array | Uint8Array): string {
  let [a, b] = [0x811c9dc5, 0x9e3779b9];
  for (const value of values) {
    a = Math.imul(a ^ value, 0x01000193);
    b = Math.imul(b ^ (value + 0x7f4a7c15), 0x85ebca6b) + (b >>> 15);
  }
  return `${(a >>> 0).toString(36)}${(b >>> 0).toString(36)}`;
}
