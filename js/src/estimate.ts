/**
 * The arithmetic of estimate.py on typed arrays; held to it within 1e-9 by tests/fixtures/estimates.json.
 * Nothing is allocated per call: one `Priced` is reused for the life of a cost table.
 */

import type { Costs } from "./protocol";

export const BOUNDS = ["launch", "compute", "weight-memory", "activation-memory"] as const;

/** tensors of one weight that others could share */
export const SHARED_SLOTS = 4;

const FILE_HEADER_BYTES = 64;

export interface Priced {
  weightFileBytes: number;
  sizeBytes: number;
  bitsPerWeight: number;
  /** squared error of all weights over the sum of their squares; NaN where it is not known */
  weightError: number;
  latencyMs: number;
  lowMs: number;
  highMs: number;
  peakMemoryBytes: number;
  energyMj: number;
  lowMj: number;
  highMj: number;
  /** which shared tensors the plan stores */
  stored: Uint8Array;
  opMs: Float64Array;
  opBytes: Float64Array;
  opMj: Float64Array;
  /** index into BOUNDS */
  bound: Uint8Array;
}

/** What is known of the plan as a whole, to keep: a `Priced` is overwritten. */
export type Totals = Omit<Priced, "stored" | "opMs" | "opBytes" | "bound">;

export function totalsOf(priced: Priced): Totals {
  const { stored, opMs, opBytes, bound, ...totals } = priced;
  return totals;
}

export function createPriced(costs: Costs): Priced {
  const ops = costs.launchMs.length;
  return {
    weightFileBytes: 0,
    sizeBytes: 0,
    bitsPerWeight: 0,
    weightError: Number.NaN,
    latencyMs: 0,
    lowMs: 0,
    highMs: 0,
    peakMemoryBytes: 0,
    energyMj: 0,
    lowMj: 0,
    highMj: 0,
    stored: new Uint8Array(costs.sharedFileBytes.length),
    opMs: new Float64Array(ops),
    opBytes: new Float64Array(ops),
    opMj: new Float64Array(ops),
    bound: new Uint8Array(ops),
  };
}

/** Bytes of a whole number in a proto beyond the first: seven bits go into each. */
function extraBytes(offset: number): number {
  let bytes = 0;
  for (let limit = 128; offset >= limit; limit *= 128) bytes++;
  return bytes;
}

/** Bytes of all offsets that the program proto holds, but one for each; `offset_bytes` of estimate.py. */
export function offsetBytes(costs: Costs, scheme: Uint16Array): number {
  const { fixedRecords, fileBytes, tensors } = costs;
  const schemes = costs.schemes.length;
  let at = FILE_HEADER_BYTES;
  let bytes = 0;
  let record = 0;
  for (let w = 0; w <= scheme.length; w++) {
    for (; record < fixedRecords.length && fixedRecords[record]! <= w; record += 2) {
      bytes += extraBytes(at);
      at += fixedRecords[record + 1]!;
    }
    if (w === scheme.length) break;
    const entry = w * schemes + scheme[w]!;
    const count = tensors[entry]!;
    if (count > 0) bytes += extraBytes(at);
    at += fileBytes[entry]!;
    if (count > 1) bytes += (count - 1) * extraBytes(at);
  }
  return bytes;
}

/** By how much the proto grows apart from its ops: offsets, build information, lengths of the messages around. */
function restOfGrowth(costs: Costs, scheme: Uint16Array, ops: number): number {
  const { enclosingBytes, buildInfoBytes } = costs;
  const offsets = offsetBytes(costs, scheme) - offsetBytes(costs, costs.start);
  const growth = offsets + ops;
  let lengths = 0;
  for (let m = 0; m < enclosingBytes.length; m++) {
    const before = enclosingBytes[m]!;
    const lost = m === enclosingBytes.length - 1 ? buildInfoBytes : 0;
    lengths += extraBytes(before + growth + lengths - lost) - extraBytes(before);
  }
  return offsets + lengths - buildInfoBytes;
}

function markShared(shared: Int32Array, at: number, stored: Uint8Array): void {
  for (let slot = at * SHARED_SLOTS; slot < (at + 1) * SHARED_SLOTS; slot++)
    if (shared[slot]! >= 0) stored[shared[slot]!] = 1;
}

/** Price a plan into `out`: one scheme index a weight, and whether each op reads int8 activations (none by default). */
export function price(costs: Costs, scheme: Uint16Array, out: Priced, int8?: Uint8Array): void {
  const {
    payloadBytes,
    fileBytes,
    shared,
    sharedFileBytes,
    protoBytes,
    streamMs,
    residentBytes,
    elements,
    signal,
    squaredError,
  } = costs;
  const schemes = costs.schemes.length;
  const { stored } = out;
  stored.fill(0);
  let file = 0;
  let proto = 0;
  let payload = 0;
  let resident = 0;
  let count = 0;
  let error = 0;
  let squares = 0;
  let changed = false;
  for (let w = 0; w < scheme.length; w++) {
    const at = w * schemes + scheme[w]!;
    file += fileBytes[at]!;
    if (w !== costs.lastWeight) markShared(shared, at, stored);
    proto += protoBytes[at]!;
    payload += payloadBytes[at]!;
    resident += residentBytes[at]!;
    count += elements[w]!;
    error += squaredError[at]!;
    squares += signal[w]!;
    if (scheme[w] !== costs.start[w]) changed = true;
  }
  if (costs.lastWeight >= 0) {
    // Its last tensor ends the file, unless another weight has stored an equal one before.
    const s = scheme[costs.lastWeight]!;
    const tail = costs.tailShared[s]!;
    file -= costs.tailBytes[2 * s + (tail >= 0 && stored[tail] === 1 ? 1 : 0)]!;
    markShared(shared, costs.lastWeight * schemes + s, stored);
  }
  for (let s = 0; s < stored.length; s++) if (stored[s]) file += sharedFileBytes[s]!;
  out.weightFileBytes = costs.fixedFileBytes + file;
  if (changed) proto += restOfGrowth(costs, scheme, proto);
  out.sizeBytes = out.weightFileBytes + costs.fixedProtoBytes + proto;
  out.weightError = error === 0 && !Number.isNaN(squares) ? 0 : error / squares;
  out.bitsPerWeight = count > 0 ? (8 * payload) / count : 0;

  out.peakMemoryBytes = costs.fixedMemoryBytes + resident;

  const { launchMs, opWeights, opWeightsStart, opWeightsShare, int8Ops, int8Ms, int8Schemes } = costs;
  const { opMs, opBytes, opMj, bound } = out;
  let latency = costs.dispatchMs;
  let energy = costs.dispatchMj;
  let eight = 0;
  for (let o = 0; o < opMs.length; o++) {
    let stream = 0;
    let bytes = 0;
    let moved = 0;
    let others = 0;
    const end = opWeightsStart[o + 1]!;
    for (let i = opWeightsStart[o]!; i < end; i++) {
      const w = opWeights[i]!;
      const at = w * schemes + scheme[w]!;
      stream += opWeightsShare[i]! * streamMs[at]!;
      moved += opWeightsShare[i]! * residentBytes[at]!;
      bytes += payloadBytes[at]!;
      if (!int8Schemes[scheme[w]!]) others++;
    }
    let compute = costs.computeMs[o]!;
    let memory = costs.activationMs[o]!;
    let products = costs.productsMs[o]!;
    let traffic = costs.trafficMs[o]!;
    if (int8Ops[eight] === o) {
      if (int8?.[o] && others === 0) {
        compute = int8Ms[eight]!;
        memory = int8Ms[int8Ops.length + eight]!;
        products = int8Ms[2 * int8Ops.length + eight]!;
        traffic = int8Ms[3 * int8Ops.length + eight]!;
      }
      eight++;
    }
    memory += stream;
    const launch = launchMs[o]!;
    const busy = Math.max(compute, memory);
    const ms = launch + busy;
    opMs[o] = ms;
    opBytes[o] = bytes;
    const byWeights = memory > (products + traffic) * (1 + costs.rounding);
    bound[o] = launch >= busy ? 0 : byWeights ? 2 : traffic > products ? 3 : 1;
    latency += ms;
    const mj = costs.workMj[o]! + costs.byteMj[o]! * moved + costs.activeW[o]! * ms;
    opMj[o] = mj;
    energy += mj;
  }
  out.latencyMs = latency;
  const change = costs.startMs > 0 ? Math.abs(Math.log(latency / costs.startMs)) : 0;
  const wider = costs.spread * Math.min(1, change / costs.largeChange);
  out.lowMs = latency * Math.exp(-Math.hypot(Math.log(costs.interval[0]), wider));
  out.highMs = latency * Math.exp(Math.hypot(Math.log(costs.interval[1]), wider));
  out.energyMj = energy;
  out.lowMj = energy / costs.energyFactor;
  out.highMj = energy * costs.energyFactor;
}
