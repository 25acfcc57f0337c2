/** What a scheme select and a bits slider say and do for some weights: one op's, a selection's, or all. */

import { type ReadonlySignal, useComputed } from "@preact/signals";
import { useRef } from "preact/hooks";
import * as format from "../format";
import type { Costs } from "../protocol";
import {
  assignFamily,
  assignScheme,
  type Common,
  common,
  FLOAT16,
  type Stop,
  stopsFor,
  workingFamily,
} from "../schemes";
import type { Store } from "../store";

export interface Control {
  /** shared family key, "" when the weights differ */
  family: string;
  stops: Stop[];
  at: number;
  mean: number;
  /** "4", "mixed" */
  short: string;
  valueText: string;
  editable: number;
}

/**
 * What a control shows, kept up to date; its stops are the same list throughout a gesture.
 *
 * @param scheme of every weight, where it is not to follow each step of the plan
 */
export function useControl(
  store: Store,
  weights: ReadonlySignal<ArrayLike<number>>,
  scheme?: ReadonlySignal<Uint16Array>,
): ReadonlySignal<Control> {
  const now = useComputed(() =>
    common(store.costs.value, weights.value, scheme?.value ?? store.edits.scheme),
  );
  const family = useComputed(() => {
    const costs = store.costs.value;
    const { family: shared } = now.value;
    if (shared !== "" && shared !== costs.schemes[FLOAT16]?.family) return shared;
    return workingFamily(costs, weights.value, store.preferredFamily.value, store.edits.held.value);
  });
  const stops = useComputed(() =>
    stopsFor(store.costs.value, weights.value, family.value, store.edits.held.value),
  );
  return useComputed(() => controlOf(store.costs.value, now.value, stops.value));
}

/** What weights have in common; the same object while that is the same, so that nothing is worked out again. */
export function useCommon(
  store: Store,
  weights: ReadonlySignal<ArrayLike<number>>,
  scheme?: ReadonlySignal<Uint16Array>,
): ReadonlySignal<Common> {
  const last = useRef<Common | null>(null);
  return useComputed(() => {
    const found = common(store.costs.value, weights.value, scheme?.value ?? store.edits.scheme);
    const same =
      last.current?.scheme === found.scheme &&
      last.current.family === found.family &&
      last.current.meanBits === found.meanBits &&
      last.current.editable === found.editable;
    if (!same) last.current = found;
    return last.current ?? found;
  });
}

function controlOf(costs: Costs, now: Common, stops: Stop[]): Control {
  const info = costs.schemes[now.scheme];
  const mean = `mean ${format.inBits(now.meanBits)}`;
  return {
    family: now.family,
    stops,
    at: now.scheme < 0 ? -1 : stops.findIndex((s) => s.scheme === now.scheme),
    mean: positionOf(stops, now.meanBits),
    short: info ? String(info.nbits) : "mixed",
    valueText: info ? `${format.plural(info.nbits, "bit")}, ${info.familyLabel}` : `mixed, ${mean}`,
    editable: now.editable,
  };
}

/** Where a mean number of bits lies between the stops. */
function positionOf(stops: Stop[], bits: number): number {
  for (let i = 1; i < stops.length; i++) {
    const [a, b] = [stops[i - 1]!.nbits, stops[i]!.nbits];
    if (bits >= b) return a === b ? i : i - 1 + Math.max(0, (a - bits) / (a - b));
  }
  return stops.length - 1;
}

export function chooseStop(
  store: Store,
  weights: ArrayLike<number>,
  what: string,
  stop: Stop,
  gesture: string,
): void {
  const costs = store.costs.peek();
  const label = `${what}: ${costs.schemes[stop.scheme]!.label}`;
  store.edits.assign(assignScheme(costs, weights, stop.scheme, store.edits.held.peek()), label, gesture);
}

export function chooseFamily(store: Store, weights: ArrayLike<number>, what: string, family: string): void {
  const costs = store.costs.peek();
  const name = costs.families.find((f) => f.key === family)?.label ?? family;
  const gesture = store.edits.begin();
  store.edits.assign(
    assignFamily(costs, weights, family, store.edits.held.value),
    `${what}: ${name}`,
    gesture,
  );
  store.edits.end();
}

export interface Activations {
  /** why the ops asked for cannot have them, as far as they cannot: the most frequent reason */
  reason: string;
  /** of the ops asked for, those that coremltools can give int8 activations */
  ops: readonly number[];
  /** how many of those have them */
  on: number;
}

/** Which activations can be int8 and are: of the selection, or of all ops when nothing is selected. */
export function activationsOf(store: Store): Activations {
  const { canReadInt8, int8Refusal } = store.program.value.ops;
  const int8 = store.edits.int8.value;
  const selected = store.selection.value.ops;
  const all = selected.length > 0 ? selected : Array.from(canReadInt8, (_, op) => op);
  const ops = all.filter((op) => canReadInt8[op]);
  const reasons = new Map<string, number>();
  for (const op of all) {
    const refusal = int8Refusal[op]!;
    if (refusal !== "") reasons.set(refusal, (reasons.get(refusal) ?? 0) + 1);
  }
  const [reason = ""] = [...reasons].sort((a, b) => b[1] - a[1])[0] ?? [];
  return { ops, on: ops.filter((op) => int8[op]).length, reason };
}

export function resetToFloat16(store: Store, weights: ArrayLike<number>, what: string): void {
  const gesture = store.edits.begin();
  const costs = store.costs.peek();
  store.edits.assign(
    assignScheme(costs, weights, FLOAT16, store.edits.held.value),
    `${what}: ${costs.schemes[FLOAT16]!.label}`,
    gesture,
  );
  store.edits.end();
}
