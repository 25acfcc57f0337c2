/** Which ops the table shows and in which order: search, ranges of numbers, chosen types, modules, bounds and units. */

import type { ColumnKey, SortKey } from "./columns";
import { TABLE_COLUMNS } from "./columns";
import { type Bins, edgesAt, NONE, type Range } from "./histogram";
import { numbers, texts } from "./opValues";
import type { Program } from "./protocol";
import type { Store } from "./store";

/** Columns whose values are chosen from a menu. */
export type PickKey = "op_type" | "module" | "bound" | "unit";
export const PICKS: readonly PickKey[] = ["op_type", "module", "bound", "unit"];

/** What a person set up in the table. Plain data: it can be kept, and put back. */
export interface TableView {
  query: string;
  sort: readonly SortKey[];
  ranges: Partial<Record<ColumnKey, Range>>;
  /** names that are shown; none for all. A module stands for all inside it */
  picks: Partial<Record<PickKey, readonly string[]>>;
  /** columns that were chosen; null for those that fit */
  columns: readonly ColumnKey[] | null;
}

export const OPENING: TableView = {
  query: "",
  sort: [{ key: "size", descending: true }],
  ranges: {},
  picks: {},
  columns: null,
};

export const isFiltered = (view: TableView): boolean =>
  view.query.trim() !== "" || Object.keys(view.ranges).length > 0 || Object.keys(view.picks).length > 0;

export const unfiltered = (view: TableView): TableView => ({ ...view, query: "", ranges: {}, picks: {} });

export function withRange(view: TableView, key: ColumnKey, range: Range | null): TableView {
  const { [key]: _, ...rest } = view.ranges;
  return { ...view, ranges: range ? { ...rest, [key]: range } : rest };
}

export function withPick(view: TableView, key: PickKey, names: readonly string[]): TableView {
  const { [key]: _, ...rest } = view.picks;
  return { ...view, picks: names.length > 0 ? { ...rest, [key]: names } : rest };
}

/** All ops in the order of the keys; equal ones stay in execution order, and what has no value comes last. */
export function sortOps(store: Store, keys: readonly SortKey[]): Int32Array {
  const count = store.program.peek().ops.count;
  const by = keys.map(({ key, descending }) => {
    const numeric = key === "module" || TABLE_COLUMNS.find((c) => c.key === key)!.numeric;
    const column = numeric ? numbers(store, key) : ranks(texts(store, key), count);
    return { column, sign: descending ? -1 : 1 };
  });
  return Int32Array.from({ length: count }, (_, op) => op).sort((a, b) => {
    for (const { column, sign } of by) {
      const [x, y] = [column[a]!, column[b]!];
      if (x === y) continue;
      if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
      if (x < y) return -sign;
      if (x > y) return sign;
    }
    return a - b;
  });
}

/** Texts as numbers that sort alike: each distinct one is compared once. */
function ranks(text: (op: number) => string, count: number): Float64Array {
  const all = Array.from({ length: count }, (_, op) => text(op));
  const rank = new Map([...new Set(all)].sort((a, b) => (a < b ? -1 : 1)).map((t, i) => [t, i]));
  return Float64Array.from(all, (t) => rank.get(t)!);
}

/** Which ops have every word of the query in their name, type, module or source. */
export function searchMask(program: Program, query: string): Uint8Array {
  const { ops, modules } = program;
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const mask = new Uint8Array(ops.count).fill(1);
  if (words.length === 0) return mask;
  for (let op = 0; op < ops.count; op++) {
    const module = modules.path[ops.module[op]!] ?? "";
    const text = `${ops.name[op]}\n${ops.opType[op]}\n${module}\n${ops.source[op]}`.toLowerCase();
    if (!words.every((word) => text.includes(word))) mask[op] = 0;
  }
  return mask;
}

/** Which ops have one of the names in a column; for modules, which lie in one of them. */
export function pickMask(store: Store, key: PickKey, names: readonly string[]): Uint8Array {
  const { ops, modules } = store.program.peek();
  const chosen = new Set(names);
  if (key !== "module") {
    const text = texts(store, key);
    return Uint8Array.from({ length: ops.count }, (_, op) => (chosen.has(text(op)) ? 1 : 0));
  }
  const inside = new Uint8Array(modules.count);
  // Parents come before their children.
  for (let m = 0; m < modules.count; m++)
    inside[m] = chosen.has(modules.path[m]!) || inside[modules.parent[m]!] === 1 ? 1 : 0;
  return Uint8Array.from({ length: ops.count }, (_, op) => inside[ops.module[op]!]!);
}

/** Those of the ops, in their order, that every mask and every range of bars lets through. */
export function passing(
  order: Int32Array,
  masks: readonly Uint8Array[],
  ranges: readonly { bins: Bins; range: Range }[],
): Int32Array {
  const between = ranges.map(({ bins, range }) => ({ bar: bins.bar, edges: edgesAt(bins, range) }));
  const out = new Int32Array(order.length);
  let count = 0;
  next: for (let i = 0; i < order.length; i++) {
    const op = order[i]!;
    for (const mask of masks) if (mask[op] === 0) continue next;
    for (const { bar, edges } of between) {
      const at = bar[op]!;
      if (at === NONE || at < edges[0] || at >= edges[1]) continue next;
    }
    out[count++] = op;
  }
  return out.subarray(0, count);
}
