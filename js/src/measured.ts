/** What was measured of one plan on one machine, shown in place of estimates wherever an op is stored as it was then. */

import { f64, number, text, u8, u16, wire } from "./protocol";
import type { Store } from "./store";

export interface Measured {
  machine: string;
  /** the device that stood for the machine */
  device: string;
  computeUnit: string;
  latencyMs: number;
  /** the plan that was measured */
  scheme: Uint16Array;
  /** NaN where Core ML gives none */
  opMs: Float64Array;
  /** index into the units of a cost table, or UNKNOWN */
  unit: Uint8Array;
}

const UNKNOWN = 255;

export function decodeMeasured(value: unknown): Measured | null {
  const raw = wire(value);
  if (raw.machine === undefined) return null;
  return {
    machine: text(raw.machine),
    device: text(raw.device),
    computeUnit: text(raw.compute_unit),
    latencyMs: number(raw.latency_ms),
    scheme: u16(raw.scheme),
    opMs: f64(raw.op_ms),
    unit: u8(raw.unit),
  };
}

/** The measurement, if the session prices the device and the compute unit that it was made on. */
function current(store: Store): Measured | null {
  const measured = store.measured.value;
  const { device, computeUnit } = store.costs.value;
  return measured && measured.device === device && measured.computeUnit === computeUnit ? measured : null;
}

/** The measurement, if the op's weights are stored as they were when it was made. */
function ofOp(store: Store, op: number): Measured | null {
  const measured = current(store);
  if (!measured) return null;
  const { opWeights, opWeightsStart } = store.costs.value;
  const { scheme } = store.edits.history.value;
  for (let i = opWeightsStart[op]!; i < opWeightsStart[op + 1]!; i++)
    if (scheme[opWeights[i]!] !== measured.scheme[opWeights[i]!]) return null;
  return measured;
}

export interface MeasuredTime {
  ms: number;
  machine: string;
}

export function measuredOp(store: Store, op: number): MeasuredTime | null {
  const measured = ofOp(store, op);
  const ms = measured?.opMs[op] ?? Number.NaN;
  return measured && !Number.isNaN(ms) ? { ms, machine: measured.machine } : null;
}

/** Name of the compute unit that Core ML chose, or "". */
export function measuredUnit(store: Store, op: number): string {
  const unit = ofOp(store, op)?.unit[op] ?? UNKNOWN;
  return store.costs.value.units[unit] ?? "";
}

/** The time of one prediction, if this very plan was measured. */
export function measuredPlan(store: Store): MeasuredTime | null {
  const measured = current(store);
  const { scheme } = store.edits.history.value;
  if (!measured?.scheme.every((s, w) => s === scheme[w])) return null;
  return { ms: measured.latencyMs, machine: measured.machine };
}
