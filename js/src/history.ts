/**
 * Fold rules of the edit history: the same rules as talaria_nb/session.py, held together by
 * tests/fixtures/history.json. States are values; an edit returns a new one.
 */

import type { Edit, Entry } from "./protocol";

export interface HistoryState {
  scheme: Uint16Array;
  entries: Entry[];
  /** entries[0:cursor] are applied, entries[cursor:] can be redone */
  cursor: number;
}

export type EditStep = Pick<Edit, "kind"> & Partial<Pick<Edit, "gesture" | "label" | "weights" | "schemes">>;

/** Older entries are dropped beyond this, on both sides of the wire. */
export const HISTORY_LIMIT = 100;

export function applyEdit(state: HistoryState, edit: EditStep): HistoryState {
  if (edit.kind === "undo") return step(state, -1);
  if (edit.kind === "redo") return step(state, 1);
  return set(state, edit);
}

export function fold(state: HistoryState, edits: readonly EditStep[]): HistoryState {
  return edits.reduce(applyEdit, state);
}

function step(state: HistoryState, direction: 1 | -1): HistoryState {
  const entry = state.entries[direction > 0 ? state.cursor : state.cursor - 1];
  if (!entry) return state;
  const scheme = state.scheme.slice();
  const values = direction > 0 ? entry.after : entry.before;
  for (let i = 0; i < entry.weights.length; i++) scheme[entry.weights[i]!] = values[i]!;
  return { scheme, entries: state.entries, cursor: state.cursor + direction };
}

function set(state: HistoryState, edit: EditStep): HistoryState {
  const changed: Entry = {
    label: edit.label ?? "",
    gesture: edit.gesture ?? "",
    weights: [],
    before: [],
    after: [],
  };
  const scheme = state.scheme.slice();
  const { weights, schemes } = ascending(edit.weights ?? [], edit.schemes ?? []);
  for (let i = 0; i < weights.length; i++) {
    const w = weights[i]!;
    const before = scheme[w]!;
    const after = schemes[i] ?? 0;
    if (before === after) continue;
    changed.weights.push(w);
    changed.before.push(before);
    changed.after.push(after);
    scheme[w] = after;
  }
  if (changed.weights.length === 0) return state;
  const entries = state.entries.slice(0, state.cursor);
  const last = entries[entries.length - 1];
  if (last && changed.gesture !== "" && last.gesture === changed.gesture) {
    entries.pop();
    const merged = merge(last, changed);
    if (merged.weights.length > 0) entries.push(merged);
  } else {
    entries.push(changed);
  }
  if (entries.length > HISTORY_LIMIT) entries.splice(0, entries.length - HISTORY_LIMIT);
  return { scheme, entries, cursor: entries.length };
}

interface Targets {
  weights: readonly number[];
  schemes: readonly number[];
}

/** Each weight once, in order, the last word on it winning. Model-wide edits come in order and pass through. */
function ascending(weights: readonly number[], schemes: readonly number[]): Targets {
  if (weights.every((w, i) => i === 0 || weights[i - 1]! < w)) return { weights, schemes };
  const target = new Map(weights.map((w, i) => [w, schemes[i] ?? 0]));
  const sorted = [...target.keys()].sort((a, b) => a - b);
  return { weights: sorted, schemes: sorted.map((w) => target.get(w)!) };
}

/** Union of the weights, oldest before, newest after and label. */
function merge(older: Entry, newer: Entry): Entry {
  const before = new Map<number, number>();
  const after = new Map<number, number>();
  for (const entry of [older, newer]) {
    entry.weights.forEach((w, i) => {
      if (!before.has(w)) before.set(w, entry.before[i]!);
      after.set(w, entry.after[i]!);
    });
  }
  const weights = [...before.keys()].filter((w) => before.get(w) !== after.get(w)).sort((a, b) => a - b);
  return {
    label: newer.label,
    gesture: newer.gesture,
    weights,
    before: weights.map((w) => before.get(w)!),
    after: weights.map((w) => after.get(w)!),
  };
}
