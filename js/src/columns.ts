/** Columns of the ops table: which there are, which stay when the table is narrow, and by which it is sorted. */

import * as format from "./format";
import type { Bins, Range } from "./histogram";
import type { Column, Program } from "./protocol";

export type ColumnKey =
  | "name"
  | "op_type"
  | "output"
  | "module"
  | "module_class"
  | "source"
  | "scheme"
  | "bits"
  | "bits_per_weight"
  | "elements"
  | "size"
  | "size_share"
  | "error"
  | "latency"
  | "latency_share"
  | "energy"
  | "flops"
  | "activation_bytes"
  | "bound"
  | "unit";

export type ColumnGroup = "op" | "weights" | "time and energy" | "work";

export interface TableColumn {
  key: ColumnKey;
  title: string;
  /** where the column chooser lists it */
  group: ColumnGroup;
  /** keys of `program.columns` whose text is the tooltip, best first; or a sentence of our own */
  meta: string[];
  about?: string;
  /** pixels; the first column takes what is left */
  width: number;
  /** columns with a higher number go first when there is no room; those without one are shown only when chosen */
  optional?: number;
  numeric: boolean;
  /** whether the first click puts the lowest on top: there the lowest is what one looks for */
  lowFirst?: boolean;
}

const text = (
  key: ColumnKey,
  title: string,
  group: ColumnGroup,
  width: number,
  rest: Partial<TableColumn> = {},
): TableColumn => ({ key, title, group, meta: [key], width, numeric: false, ...rest });

const figure = (
  key: ColumnKey,
  title: string,
  group: ColumnGroup,
  width: number,
  rest: Partial<TableColumn> = {},
): TableColumn => ({ key, title, group, meta: [key], width, numeric: true, ...rest });

export const TABLE_COLUMNS: readonly TableColumn[] = [
  text("name", "name", "op", 132, { optional: 0 }),
  text("op_type", "op", "op", 76, { optional: 0.7 }),
  text("output", "output", "op", 92, { optional: 4, meta: ["output", "output_shape"] }),
  text("module", "module", "op", 150, { optional: 0.3 }),
  text("module_class", "class", "op", 120, { about: "Class of the module whose code made the op." }),
  text("source", "source", "op", 150, { optional: 5 }),
  text("scheme", "scheme", "weights", 96, { optional: 0 }),
  figure("bits", "bits", "weights", 128, { optional: 0 }),
  figure("bits_per_weight", "bits per weight", "weights", 112, {
    about:
      "Stored bits of the weights that the op reads over their elements, tables and scales included (exact).",
  }),
  figure("elements", "elements", "weights", 88, {
    about: "Elements of the weights that the op reads (exact).",
  }),
  figure("size", "size", "weights", 124, { optional: 0, meta: ["size", "weight_bytes", "size_bytes"] }),
  figure("size_share", "% of size", "weights", 80, {
    about:
      "Bytes of the op's weights as stored, of those of all ops. A tied weight counts for each op that reads it.",
  }),
  figure("error", "weight error", "weights", 124, { optional: 0.5, meta: ["sqnr_db"], lowFirst: true }),
  figure("latency", "latency ms", "time and energy", 132, { optional: 0, meta: ["latency", "latency_ms"] }),
  figure("latency_share", "% of latency", "time and energy", 92, {
    about: "Time of the op, of the time of all ops (estimated).",
  }),
  figure("energy", "energy µJ", "time and energy", 92, {
    meta: ["energy_mj"],
    about: "Energy of the op (a rough guess).",
  }),
  text("bound", "bound", "time and energy", 124, { optional: 3 }),
  text("unit", "unit", "time and energy", 96, { optional: 6 }),
  figure("flops", "FLOPs", "work", 88),
  figure("activation_bytes", "activations", "work", 92),
];

const NAME_IDEAL = 168;

/** In a narrow table all columns are narrower, so that the module stays: it tells people more than the op's name. */
const TIGHT: Partial<Record<ColumnKey, number>> = {
  name: 96,
  module: 116,
  scheme: 88,
  bits: 112,
  size: 116,
  error: 124,
  latency: 128,
};

/** The columns that were chosen; else those that fit, in their order, that of errors only once there are any. */
export function columnsFor(
  width: number,
  errors: boolean,
  chosen: readonly ColumnKey[] | null = null,
): TableColumn[] {
  if (chosen) return TABLE_COLUMNS.filter((c) => c.key === "name" || chosen.includes(c.key));
  const offered = TABLE_COLUMNS.filter((c) => c.optional !== undefined && (errors || c.key !== "error"));
  const telling = offered.filter((c) => c.key in TIGHT);
  if (width >= widthOf(telling, NAME_IDEAL)) return fitting(offered, width, NAME_IDEAL);
  return fitting(
    telling.map((c) => ({ ...c, width: TIGHT[c.key]! })),
    width,
    TIGHT.name!,
  );
}

/** What a table needs whose first column has a width. */
const widthOf = (columns: readonly TableColumn[], name: number): number =>
  columns.reduce((sum, c) => sum + (c.key === "name" ? name : c.width), 0);

/** Those that must be shown, and as many of the others as there is room for, the least optional first. */
function fitting(columns: readonly TableColumn[], width: number, name: number): TableColumn[] {
  const kept = new Set(columns.filter((c) => c.optional === 0));
  for (const c of columns.filter((c) => c.optional !== 0).sort((a, b) => a.optional! - b.optional!)) {
    if (widthOf([...kept, c], name) > width) break;
    kept.add(c);
  }
  return columns.filter((c) => kept.has(c));
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
  if (!meta) return c.about ?? c.title;
  const facts = [meta.unit, meta.certainty === "text" ? "" : meta.certainty].filter((s) => s !== "");
  return `${meta.description || meta.title}${facts.length > 0 ? ` (${facts.join(", ")})` : ""}`;
}

export interface SortKey {
  key: ColumnKey;
  descending: boolean;
}

/** A click sorts by the column, or turns its direction; with shift it becomes or stays a second key. */
export function nextSort(sort: readonly SortKey[], c: TableColumn, second: boolean): SortKey[] {
  const now = sort.find((s) => s.key === c.key);
  const next = { key: c.key, descending: now ? !now.descending : c.numeric && !c.lowFirst };
  if (!second) return [next];
  if (now) return sort.map((s) => (s === now ? next : s));
  return [...sort.slice(0, 1), next];
}

/** A number of a column as people read it, with its unit. */
export function written(key: ColumnKey, value: number): string {
  switch (key) {
    case "size":
    case "activation_bytes":
      return format.bytes(value);
    case "elements":
    case "flops":
      return format.quantity(value);
    case "size_share":
    case "latency_share":
      return `${format.digits(value, 2)}${format.THIN}%`;
    case "error":
      return `${value.toFixed(1).replace("-", format.MINUS)}${format.THIN}dB`;
    case "latency":
      return `${format.milliseconds(value)}${format.THIN}ms`;
    case "energy":
      return `${format.digits(value, 2)}${format.THIN}µJ`;
    default:
      return format.inBits(value, format.THIN);
  }
}

/** A number, and its unit with what stands before it, or "". */
function parts(text: string): [string, string] {
  const at = text.lastIndexOf(format.THIN);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at)];
}

/** A range that the table is filtered by, in short: "≥ 12 KB", "4–8 bits". */
export function rangeText(key: ColumnKey, bins: Bins, [low, high]: Range): string {
  const { edges, whole } = bins;
  const most = whole ? high - 1 : high;
  // There is little room over a column: no decimals where there are two digits before them.
  const short = (value: number): string =>
    written(key, value).replace(/\d{2,}\.\d+/, (digits) => String(Math.round(Number(digits))));
  if (whole && low === most) return short(low);
  if (low <= edges[0]!) return `${whole ? "≤" : "<"}${format.THIN}${short(most)}`;
  if (high >= edges[edges.length - 1]!) return `≥${format.THIN}${short(low)}`;
  const [a, b] = [short(low), short(most)];
  const [number, unit] = parts(a);
  return `${unit.replace("bits", "bit") === parts(b)[1].replace("bits", "bit") ? number : a}–${b}`;
}
