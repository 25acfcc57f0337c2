/** The wire between talaria_nb/session.py and this front end: types, and decoding of binary columns. */

import type { BudgetUnits } from "./budgets";
import { type Roundings, unpackRoundings } from "./roundings";

export type Wire = Record<string, unknown>;

/** What `store.ts` needs of a Jupyter model; a plain object in tests and in a self-contained page. */
export interface HostModel {
  get(key: string): unknown;
  set(key: string, value: unknown): void;
  on(event: string, callback: () => void): void;
  off(event: string, callback: () => void): void;
  save_changes(): void;
  /** the host's; of it only the kernel is looked at, where there is one */
  widget_manager?: unknown;
}

export interface Column {
  key: string;
  title: string;
  unit: string;
  description: string;
  certainty: string;
  numeric: boolean;
}

export interface Program {
  name: string;
  target: string;
  /** whether the model was loaded from a torch module */
  fromTorch: boolean;
  /** item of the Export menu that is saved → the ending of its file */
  exportEndings: Record<string, string>;
  /** where an app can let Core ML run a model, as coremltools names it and as people do */
  computeUnits: { key: string; title: string }[];
  budgetUnits: BudgetUnits;
  columns: Column[];
  ops: {
    count: number;
    name: string[];
    opType: string[];
    module: Int32Array;
    source: string[];
    output: string[];
    flops: Float64Array;
    activationBytes: Float64Array;
    /** whether coremltools can give the op int8 activations */
    canReadInt8: Uint8Array;
    /** why it cannot, or "" */
    int8Refusal: string[];
  };
  /** producer, consumer, producer, consumer, … */
  edges: Int32Array;
  modules: {
    count: number;
    path: string[];
    className: string[];
    parent: Int32Array;
    /** equal for modules that are built alike; -1 for those without ops */
    alike: Int32Array;
    /** the ops of a module and of all inside it are `tree.order.subarray(start, stop)`, alike ones in the same places */
    start: Int32Array;
    stop: Int32Array;
  };
  /** blocks.py's tree: `leaf` is the module of each op there, which may be one around `ops.module` */
  tree: { leaf: Int32Array; order: Int32Array };
  weights: {
    count: number;
    name: string[];
    shape: string[];
    elements: Float64Array;
    module: Int32Array;
  };
}

export interface SchemeInfo {
  key: string;
  label: string;
  family: string;
  familyLabel: string;
  nbits: number;
}

export interface Costs {
  device: string;
  computeUnit: string;
  /** keys of the compute units that can be priced on this device */
  offeredUnits: string[];
  schemes: SchemeInfo[];
  families: { key: string; label: string }[];
  /** which schemes are on the menu; the others are there for the weights that have them */
  offered: Uint8Array;
  /** each weight's scheme as the model was loaded: the baseline */
  start: Uint16Array;
  legal: Uint8Array;
  reason: Int16Array;
  reasons: string[];
  payloadBytes: Float64Array;
  fileBytes: Float64Array;
  /**
   * SHARED_SLOTS indices into sharedFileBytes for each weight and scheme, -1 for none: tensors stored once for all
   * weights that name them
   */
  shared: Int32Array;
  sharedFileBytes: Float64Array;
  /** the weight that ends weight.bin, or -1 */
  lastWeight: number;
  /** per scheme of that weight, padding that is spared: if its last tensor is new, and if another weight stores it */
  tailBytes: Float64Array;
  /** per scheme of that weight, its last tensor's index into sharedFileBytes, or -1 */
  tailShared: Int32Array;
  protoBytes: Float64Array;
  /** tensors in weight.bin per weight and scheme: the proto names each by its offset */
  tensors: Uint8Array;
  /** per stored tensor that is no weight: how many weights come before it, its bytes in the file, … */
  fixedRecords: Int32Array;
  /** what any compression makes the proto lose */
  buildInfoBytes: number;
  /** bytes of the messages around the ops of the proto, innermost first: each one's length is written */
  enclosingBytes: Int32Array;
  roundings: Roundings;
  streamMs: Float64Array;
  /** memory that a weight takes while the model is loaded, and what moves when an op brings it in */
  residentBytes: Float64Array;
  fixedMemoryBytes: number;
  elements: Float64Array;
  /** sum of squared values of each weight; NaN while unknown, as squaredError of each weight and scheme */
  signal: Float64Array;
  squaredError: Float32Array;
  /** which schemes' errors are exact: nothing is clustered */
  exactError: Uint8Array;
  fixedFileBytes: number;
  fixedProtoBytes: number;
  dispatchMs: number;
  /** names of the compute units, and where each op runs */
  units: string[];
  unit: Uint8Array;
  unitReasons: string[];
  /** per op, why it left the Neural Engine, or -1 */
  unitReason: Int16Array;
  launchMs: Float64Array;
  computeMs: Float64Array;
  activationMs: Float64Array;
  productsMs: Float64Array;
  trafficMs: Float64Array;
  /** ops that run faster once their activations and all of their weights are int8, ascending */
  int8Ops: Int32Array;
  /** compute, activation, products and traffic of those ops then, one after the other */
  int8Ms: Float64Array;
  /** which schemes store int8 weights */
  int8Schemes: Uint8Array;
  workMj: Float64Array;
  byteMj: Float64Array;
  activeW: Float64Array;
  dispatchMj: number;
  /** an energy is known to this factor each way */
  energyFactor: number;
  opWeightsStart: Int32Array;
  opWeights: Int32Array;
  /** part of the weight that the op brings in: less than 1 for a gather */
  opWeightsShare: Float64Array;
  /** of the model as it was loaded; wider for a plan that changes the latency */
  interval: [number, number];
  startMs: number;
  /** how much wider, in log units, from a change by `largeChange` (log units) on */
  spread: number;
  largeChange: number;
  /** sums that stand for the same time may differ by so much of it */
  rounding: number;
}

export interface Entry {
  label: string;
  gesture: string;
  weights: number[];
  before: number[];
  after: number[];
  /** ops whose activations went from float to int8 or back */
  toggled: number[];
}

export interface PlanMessage {
  revision: number;
  scheme: Uint16Array;
  /** whether each op reads int8 activations */
  int8: Uint8Array;
  cursor: number;
  history: Entry[];
  acknowledged: Record<string, number>;
}

export interface Edit {
  client: string;
  sequence: number;
  kind: "set" | "undo" | "redo";
  gesture: string;
  label: string;
  weights: number[];
  schemes: number[];
  /** ops that get int8 activations (1) or float (0) */
  ops: number[];
  int8: number[];
}

interface Numbers<T> {
  readonly length: number;
  set(from: T, at: number): void;
  subarray(begin: number, end: number): T;
}

interface TypedArrayOf<T> {
  new (buffer: ArrayBuffer): T;
  new (length: number): T;
  from(values: ArrayLike<number>): T;
}

/** Jupyter hands out views at any byte offset, so the bytes are copied to get an aligned array. */
function aligned<T>(kind: TypedArrayOf<T>, value: unknown): T {
  if (value instanceof ArrayBuffer) return new kind(value.slice(0));
  if (value instanceof DataView) {
    const bytes = new Uint8Array(value.byteLength);
    bytes.set(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
    return new kind(bytes.buffer);
  }
  if (Array.isArray(value)) return kind.from(value);
  if (ArrayBuffer.isView(value)) return kind.from(value as unknown as ArrayLike<number>);
  return kind.from([]);
}

/** Which of the distinct rows each row is. */
function places({ of, of_width }: Wire): Uint8Array | Uint16Array | Uint32Array {
  if (of_width === 1) return aligned<Uint8Array>(Uint8Array, of);
  return of_width === 2 ? aligned<Uint16Array>(Uint16Array, of) : aligned<Uint32Array>(Uint32Array, of);
}

/** Numbers, or their distinct rows and which of them each row is. */
function typed<T extends Numbers<T>>(kind: TypedArrayOf<T>, value: unknown): T {
  const packed = wire(value);
  if (packed.of === undefined) return aligned(kind, value);
  const rows = aligned(kind, packed.rows);
  const of = places(packed);
  let count = 0;
  for (const row of of) count = Math.max(count, row + 1);
  const width = count > 0 ? rows.length / count : 0;
  const all = new kind(of.length * width);
  for (let i = 0; i < of.length; i++) all.set(rows.subarray(of[i]! * width, (of[i]! + 1) * width), i * width);
  return all;
}

export const f32 = (value: unknown): Float32Array => typed<Float32Array>(Float32Array, value);
export const f64 = (value: unknown): Float64Array => typed<Float64Array>(Float64Array, value);
export const i32 = (value: unknown): Int32Array => typed<Int32Array>(Int32Array, value);
export const i16 = (value: unknown): Int16Array => typed<Int16Array>(Int16Array, value);
export const u16 = (value: unknown): Uint16Array => typed<Uint16Array>(Uint16Array, value);
export const u8 = (value: unknown): Uint8Array => typed<Uint8Array>(Uint8Array, value);

export const wire = (value: unknown): Wire => (value ?? {}) as Wire;
export const text = (value: unknown): string => (value === undefined || value === null ? "" : String(value));
/** Texts, or the distinct ones and which of them each one is. */
export function texts(value: unknown): string[] {
  if (Array.isArray(value)) return value.map(text);
  const packed = wire(value);
  const rows = Array.isArray(packed.rows) ? packed.rows.map(text) : [];
  return Array.from(places(packed), (row) => rows[row] ?? "");
}
export const number = (value: unknown): number => Number(value ?? 0);
export const wires = (value: unknown): Wire[] => (Array.isArray(value) ? (value as Wire[]) : []);

export function decodeProgram(value: unknown): Program {
  const raw = wire(value);
  const ops = wire(raw.ops);
  const modules = wire(raw.modules);
  const weights = wire(raw.weights);
  const tree = wire(raw.tree);
  const opNames = texts(ops.name);
  const refusals = texts(ops.int8_refusal);
  const paths = texts(modules.path);
  const weightNames = texts(weights.name);
  return {
    name: text(raw.name),
    target: text(raw.deployment_target),
    fromTorch: Boolean(raw.from_torch),
    exportEndings: wire(raw.export_endings) as Record<string, string>,
    computeUnits: wires(raw.compute_units).map((u) => ({ key: text(u.key), title: text(u.title) })),
    budgetUnits: wire(raw.budget_units) as BudgetUnits,
    columns: wires(raw.columns).map((c) => ({
      key: text(c.key),
      title: text(c.title),
      unit: text(c.unit),
      description: text(c.description),
      certainty: text(c.certainty),
      numeric: Boolean(c.numeric),
    })),
    ops: {
      count: opNames.length,
      name: opNames,
      opType: texts(ops.op_type),
      module: i32(ops.module),
      source: texts(ops.source),
      output: texts(ops.output),
      flops: f64(ops.flops),
      activationBytes: f64(ops.activation_bytes),
      canReadInt8: Uint8Array.from(refusals, (refusal) => (refusal === "" ? 1 : 0)),
      int8Refusal: refusals,
    },
    edges: i32(raw.edges),
    modules: {
      count: paths.length,
      path: paths,
      className: texts(modules.class_name),
      parent: i32(modules.parent),
      alike: i32(modules.alike),
      start: i32(modules.start),
      stop: i32(modules.stop),
    },
    tree: { leaf: i32(tree.leaf), order: i32(tree.order) },
    weights: {
      count: weightNames.length,
      name: weightNames,
      shape: texts(weights.shape),
      elements: f64(weights.elements),
      module: i32(weights.module),
    },
  };
}

export function decodeCosts(value: unknown): Costs {
  const raw = wire(value);
  const interval = f64(raw.interval);
  const roundings = wire(raw.roundings);
  return {
    device: text(raw.device),
    computeUnit: text(raw.compute_unit),
    offeredUnits: texts(raw.offered_units),
    schemes: wires(raw.schemes).map((s) => ({
      key: text(s.key),
      label: text(s.label),
      family: text(s.family),
      familyLabel: text(s.family_label),
      nbits: number(s.nbits),
    })),
    families: wires(raw.families).map((f) => ({ key: text(f.key), label: text(f.label) })),
    offered: u8(raw.offered),
    start: u16(raw.start),
    legal: u8(raw.legal),
    reason: i16(raw.reason),
    reasons: texts(raw.reasons),
    payloadBytes: f64(raw.payload_bytes),
    fileBytes: f64(raw.file_bytes),
    shared: i32(raw.shared),
    sharedFileBytes: f64(raw.shared_file_bytes),
    lastWeight: Number(raw.last_weight ?? -1),
    tailBytes: f64(raw.tail_bytes),
    tailShared: i32(raw.tail_shared),
    protoBytes: f64(raw.proto_bytes),
    tensors: u8(raw.tensors),
    fixedRecords: i32(raw.fixed_records),
    buildInfoBytes: number(raw.build_info_bytes),
    enclosingBytes: i32(raw.enclosing_bytes),
    roundings: unpackRoundings(
      i32(roundings.tensor_rows),
      i32(roundings.read_rows),
      i32(roundings.writer_rows),
      i32(roundings.function_rows),
      i32(roundings.sum_rows),
    ),
    streamMs: f64(raw.stream_ms),
    residentBytes: f64(raw.resident_bytes),
    fixedMemoryBytes: number(raw.fixed_memory_bytes),
    elements: f64(raw.elements),
    signal: f64(raw.signal),
    squaredError: f32(raw.squared_error),
    exactError: u8(raw.exact_error),
    fixedFileBytes: number(raw.fixed_file_bytes),
    fixedProtoBytes: number(raw.fixed_proto_bytes),
    dispatchMs: number(raw.dispatch_ms),
    units: texts(raw.units),
    unit: u8(raw.unit),
    unitReasons: texts(raw.unit_reasons),
    unitReason: i16(raw.unit_reason),
    launchMs: f64(raw.launch_ms),
    computeMs: f64(raw.compute_ms),
    activationMs: f64(raw.activation_ms),
    productsMs: f64(raw.products_ms),
    trafficMs: f64(raw.traffic_ms),
    int8Ops: i32(raw.int8_ops),
    int8Ms: f64(raw.int8_ms),
    int8Schemes: u8(raw.int8_schemes),
    workMj: f64(raw.work_mj),
    byteMj: f64(raw.byte_mj),
    activeW: f64(raw.active_w),
    dispatchMj: number(raw.dispatch_mj),
    energyFactor: number(raw.energy_factor),
    opWeightsStart: i32(raw.op_weights_start),
    opWeights: i32(raw.op_weights),
    opWeightsShare: f64(raw.op_weights_share),
    interval: [interval[0] ?? 1, interval[1] ?? 1],
    startMs: number(raw.start_ms),
    spread: number(raw.spread),
    largeChange: number(raw.large_change),
    rounding: number(raw.rounding),
  };
}

export function decodeEntry(value: unknown): Entry {
  const raw = wire(value);
  return {
    label: text(raw.label),
    gesture: text(raw.gesture),
    weights: Array.from(i32(raw.weights)),
    before: Array.from(u16(raw.before)),
    after: Array.from(u16(raw.after)),
    toggled: Array.from(i32(raw.toggled)),
  };
}

export function decodePlan(value: unknown): PlanMessage {
  const raw = wire(value);
  return {
    revision: number(raw.revision),
    scheme: u16(raw.scheme),
    int8: u8(raw.int8),
    cursor: number(raw.cursor),
    history: wires(raw.history).map(decodeEntry),
    acknowledged: wire(raw.acknowledged) as Record<string, number>,
  };
}
