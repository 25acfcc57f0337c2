/** Columns of the ops table: what they show, how they sort, and which stay when the table is narrow. */

import { BOUNDS } from "./estimate";
import { measuredOp, measuredUnit } from "./measured";
import type { Column, Program } from "./protocol";
import { decibelsOf, opNoise } from "./sqnr";
import type { Store } from "./store";

export type ColumnKey =
  | "name"
  | "op_type"
  | "output"
  | "module"
  | "source"
  | "scheme"
  | "bits"
  | "size"
  | "error"
  | "latency"
  | "bound"
  | "unit";

export interface TableColumn {
  key: ColumnKey;
  title: string;
  /** keys of `program.columns` whose text is the tooltip, best first */
  meta: string[];
  /** pixels; the first column takes what is left */
  width: number;
  /** columns with a higher number go first when there is no room */
  optional: number;
  numeric: boolean;
  /** whether the first click puts the lowest on top: there the lowest is what one looks for */
  lowFirst?: boolean;
}

export const TABLE_COLUMNS: readonly TableColumn[] = [
  { key: "name", title: "name", meta: ["name"], width: 132, optional: 0, numeric: false },
  { key: "op_type", title: "op", meta: ["op_type"], width: 84, optional: 2, numeric: false },
  {
    key: "output",
    title: "output",
    meta: ["output", "output_shape"],
    width: 92,
    optional: 4,
    numeric: false,
  },
  { key: "module", title: "module", meta: ["module"], width: 150, optional: 1, numeric: false },
  { key: "source", title: "source", meta: ["source"], width: 150, optional: 5, numeric: false },
  { key: "scheme", title: "scheme", meta: ["scheme"], width: 104, optional: 0, numeric: false },
  {
    key: "bits",
    title: "bits",
    meta: ["bits", "nbits", "bits_per_weight"],
    width: 134,
    optional: 0,
    numeric: true,
  },
  {
    key: "size",
    title: "size",
    meta: ["size", "weight_bytes", "size_bytes"],
    width: 138,
    optional: 0,
    numeric: true,
  },
  {
    key: "error",
    title: "weight error",
    meta: ["sqnr_db"],
    width: 126,
    optional: 0.5,
    numeric: true,
    lowFirst: true,
  },
  {
    key: "latency",
    title: "latency ms",
    meta: ["latency", "latency_ms"],
    width: 140,
    optional: 0,
    numeric: true,
  },
  { key: "bound", title: "bound", meta: ["bound"], width: 124, optional: 3, numeric: false },
  { key: "unit", title: "unit", meta: ["unit"], width: 96, optional: 6, numeric: false },
];

const NAME_IDEAL = 184;

/** In a narrow table the fixed columns give some of their width to the name. */
const TIGHT_BELOW = 700;
const TIGHT: Partial<Record<ColumnKey, number>> = { scheme: 92, bits: 112, size: 128, latency: 140 };

/** The columns that fit, in their order; that of errors only once there are any. */
export function columnsFor(width: number, errors: boolean): TableColumn[] {
  if (width < TIGHT_BELOW)
    return TABLE_COLUMNS.filter((c) => c.optional === 0).map((c) => ({
      ...c,
      width: TIGHT[c.key] ?? c.width,
    }));
  let room = width - NAME_IDEAL + TABLE_COLUMNS[0]!.width;
  for (const c of TABLE_COLUMNS) if (c.optional === 0) room -= c.width;
  const kept = new Set(TABLE_COLUMNS.filter((c) => c.optional === 0));
  const optional = TABLE_COLUMNS.filter((c) => c.optional > 0 && (errors || c.key !== "error"));
  for (const c of optional.sort((a, b) => a.optional - b.optional)) {
    if (room < c.width) break;
    room -= c.width;
    kept.add(c);
  }
  return TABLE_COLUMNS.filter((c) => kept.has(c));
}

export const column = (program: Program, ...keys: string[]): Column | undefined => {
  for (const key of keys) {
    const found = program.columns.find((c) => c.key === key);
    if (found) return found;
  }
  return undefined;
};

export function tooltip(program: Program, c: TableColumn): string {
  const meta = column(program, ...c.meta);
  if (!meta) return c.title;
  const facts = [meta.unit, meta.certainty === "text" ? "" : meta.certainty].filter((s) => s !== "");
  return `${meta.description || meta.title}${facts.length > 0 ? ` (${facts.join(", ")})` : ""}`;
}

export interface SortKey {
  key: ColumnKey;
  descending: boolean;
}

type Value = (op: number) => number | string;

function sortValue(store: Store, key: ColumnKey): Value {
  const program = store.program.peek();
  const costs = store.costs.peek();
  const scheme = store.history.peek().scheme;
  const { live } = store;
  switch (key) {
    case "name":
      return (op) => program.ops.name[op]!;
    case "op_type":
      return (op) => program.ops.opType[op]!;
    case "output":
      return (op) => program.ops.output[op]!;
    // Modules are numbered in the order they run, which serves better than the alphabet.
    case "module":
      return (op) => program.ops.module[op]!;
    case "source":
      return (op) => program.ops.source[op]!;
    case "size":
      return (op) => live.opBytes[op]!;
    case "error":
      return (op) => decibelsOf(opNoise(costs, scheme, op));
    case "latency":
      return (op) => measuredOp(store, op)?.ms ?? live.opMs[op]!;
    case "bound":
      return (op) => BOUNDS[live.bound[op]!]!;
    case "unit":
      return (op) => measuredUnit(store, op) || (costs.units[costs.unit[op]!] ?? "");
    case "scheme":
    case "bits":
      return (op) => {
        let bits = 0;
        let name = "";
        for (let i = costs.opWeightsStart[op]!; i < costs.opWeightsStart[op + 1]!; i++) {
          const info = costs.schemes[scheme[costs.opWeights[i]!]!]!;
          if (bits === 0 || info.nbits < bits) bits = info.nbits;
          if (info.family !== costs.schemes[0]!.family || name === "") name = info.familyLabel;
        }
        return key === "bits" ? bits : name;
      };
  }
}

/** Ops in the order of the keys; equal ones stay in execution order. */
export function sortOps(store: Store, ops: readonly number[], keys: readonly SortKey[]): number[] {
  const values = keys.map(({ key, descending }) => {
    const value = sortValue(store, key);
    const column = new Map(ops.map((op) => [op, value(op)]));
    return { column, sign: descending ? -1 : 1 };
  });
  return [...ops].sort((a, b) => {
    for (const { column, sign } of values) {
      const [x, y] = [column.get(a)!, column.get(b)!];
      if (x !== y) return (x < y ? -1 : 1) * sign;
    }
    return a - b;
  });
}

/** A click sorts by the column, or turns its direction; with shift it becomes or stays a second key. */
export function nextSort(sort: readonly SortKey[], c: TableColumn, second: boolean): SortKey[] {
  const now = sort.find((s) => s.key === c.key);
  const next = { key: c.key, descending: now ? !now.descending : c.numeric && !c.lowFirst };
  if (!second) return [next];
  if (now) return sort.map((s) => (s === now ? next : s));
  return [...sort.slice(0, 1), next];
}

/** Ops whose name, type, module or source holds every word of the query. */
export function searchOps(program: Program, query: string): number[] {
  const { ops, modules } = program;
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found: number[] = [];
  for (let op = 0; op < ops.count; op++) {
    if (words.length > 0) {
      const module = modules.path[ops.module[op]!] ?? "";
      const text = `${ops.name[op]}\n${ops.opType[op]}\n${module}\n${ops.source[op]}`.toLowerCase();
      if (!words.every((word) => text.includes(word))) continue;
    }
    found.push(op);
  }
  return found;
}
