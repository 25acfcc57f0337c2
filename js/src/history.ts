/**
 * Fold rules of the edit history: the same rules as talaria_nb/session.py, held together by
 * tests/fixtures/history.json. States are values; an edit returns a new one.
 */

import type { Edit, Entry } from "./protocol";

export interface HistoryState {
  scheme: Uint16Array;
  /** whether each op reads int8 activations */
  int8: Uint8Array;
  entries: Entry[];
  /** entries[0:cursor] are applied, entries[cursor:] can be redone */
  cursor: number;
}

export type EditStep = Pick<Edit, "kind"> & Partial<Omit<Edit, "kind" | "client" | "sequence">>;

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

/** The state after so many of the steps. */
export function stateAt(state: HistoryState, cursor: number): HistoryState {
  let at = state;
  while (at.cursor !== cursor) {
    const next = step(at, at.cursor < cursor ? 1 : -1);
    if (next === at) break;
    at = next;
  }
  return at;
}

function step(state: HistoryState, direction: 1 | -1): HistoryState {
  const entry = state.entries[direction > 0 ? state.cursor : state.cursor - 1];
  if (!entry) return state;
  const scheme = state.scheme.slice();
  const values = direction > 0 ? entry.after : entry.before;
  for (let i = 0; i < entry.weights.length; i++) scheme[entry.weights[i]!] = values[i]!;
  const int8 = flipped(state.int8, entry.toggled);
  return { scheme, int8, entries: state.entries, cursor: state.cursor + direction };
}

function flipped(int8: Uint8Array, toggled: readonly number[]): Uint8Array {
  if (toggled.length === 0) return int8;
  const flags = int8.slice();
  for (const op of toggled) flags[op] = flags[op] ? 0 : 1;
  return flags;
}

function set(state: HistoryState, edit: EditStep): HistoryState {
  const scheme = state.scheme.slice();
  const ops = ascending(edit.ops ?? [], edit.int8 ?? []);
  const changed: Entry = {
    label: edit.label ?? "",
    gesture: edit.gesture ?? "",
    ...take(scheme, ascending(edit.weights ?? [], edit.schemes ?? [])),
    toggled: ops.rows.filter((op, i) => Boolean(state.int8[op]) !== Boolean(ops.values[i])),
  };
  if (changed.weights.length === 0 && changed.toggled.length === 0) return state;
  const int8 = flipped(state.int8, changed.toggled);
  const entries = state.entries.slice(0, state.cursor);
  const last = entries[entries.length - 1];
  if (last && changed.gesture !== "" && last.gesture === changed.gesture) {
    entries.pop();
    const merged = merge(last, changed);
    if (merged.weights.length > 0 || merged.toggled.length > 0) entries.push(merged);
  } else {
    entries.push(changed);
  }
  if (entries.length > HISTORY_LIMIT) entries.splice(0, entries.length - HISTORY_LIMIT);
  return { scheme, int8, entries, cursor: entries.length };
}

/** Give weights their schemes; what that changed. Counted first: lists that grow leave much behind in a drag. */
function take(scheme: Uint16Array, { rows, values }: Targets): Pick<Entry, "weights" | "before" | "after"> {
  let count = 0;
  for (let i = 0; i < rows.length; i++) if (scheme[rows[i]!] !== (values[i] ?? 0)) count++;
  const [weights, before, after] = [new Array(count), new Array(count), new Array(count)];
  for (let i = 0, at = 0; i < rows.length; i++) {
    const [w, next] = [rows[i]!, values[i] ?? 0];
    if (scheme[w] === next) continue;
    weights[at] = w;
    before[at] = scheme[w];
    after[at++] = next;
    scheme[w] = next;
  }
  return { weights, before, after };
}

interface Targets {
  rows: readonly number[];
  values: readonly number[];
}

/** Each row once, in order, the last word on it winning. Model-wide edits come in order and pass through. */
function ascending(rows: readonly number[], values: readonly number[]): Targets {
  let inOrder = true;
  for (let i = 1; i < rows.length && inOrder; i++) inOrder = rows[i - 1]! < rows[i]!;
  if (inOrder) return { rows, values };
  const target = new Map(rows.map((row, i) => [row, values[i] ?? 0]));
  const sorted = [...target.keys()].sort((a, b) => a - b);
  return { rows: sorted, values: sorted.map((row) => target.get(row)!) };
}

/** What is in one of two lists and not in the other, in order. */
function inOne(a: readonly number[], b: readonly number[]): number[] {
  const [inA, inB] = [new Set(a), new Set(b)];
  return [...a.filter((n) => !inB.has(n)), ...b.filter((n) => !inA.has(n))].sort((x, y) => x - y);
}

/** Union of the weights, which each has in order: oldest before, newest after and label. */
function merge(older: Entry, newer: Entry): Entry {
  const { label, gesture } = newer;
  const toggled = inOne(older.toggled, newer.toggled);
  // As a rule a drag changes the same weights at every step.
  const same =
    older.weights.length === newer.weights.length &&
    older.weights.every((w, i) => w === newer.weights[i] && older.before[i] !== newer.after[i]);
  if (same)
    return { label, gesture, weights: newer.weights, before: older.before, after: newer.after, toggled };
  const [weights, before, after]: [number[], number[], number[]] = [[], [], []];
  const add = (weight: number, from: number, to: number): void => {
    if (from === to) return;
    weights.push(weight);
    before.push(from);
    after.push(to);
  };
  let [i, j] = [0, 0];
  while (i < older.weights.length || j < newer.weights.length) {
    const a = older.weights[i] ?? Number.POSITIVE_INFINITY;
    const b = newer.weights[j] ?? Number.POSITIVE_INFINITY;
    if (a < b) add(a, older.before[i]!, older.after[i]!);
    else add(b, a === b ? older.before[i]! : newer.before[j]!, newer.after[j]!);
    if (a <= b) i++;
    if (b <= a) j++;
  }
  return { label, gesture, weights, before, after, toggled };
}
