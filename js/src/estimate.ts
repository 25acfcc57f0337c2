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

/** Where the time of an op goes, in milliseconds: launch, and the larger of compute and of weights + activations. */
export interface Parts {
  launch: number;
  compute: number;
  weights: number;
  /** less than nothing where weights begin to come in before the op does */
  activations: number;
  /** arithmetic, and reading inputs and writing outputs, each by itself */
  products: number;
  traffic: number;
  /** bytes of its weights as stored, and what of them moves */
  payloadBytes: number;
  movedBytes: number;
}

const createParts = (): Parts => ({
  launch: 0,
  compute: 0,
  weights: 0,
  activations: 0,
  products: 0,
  traffic: 0,
  payloadBytes: 0,
  movedBytes: 0,
});

/** Written over for every op. */
const parts = createParts();

export function partsOf(costs: Costs, scheme: Uint16Array, op: number, int8?: Uint8Array): Parts {
  const out = createParts();
  takeApart(costs, scheme, op, int8?.[op] ? costs.int8Ops.indexOf(op) : -1, out);
  return out;
}

/** @param eight where the op stands in `int8Ops` if its activations are int8, or -1 */
function takeApart(costs: Costs, scheme: Uint16Array, op: number, eight: number, out: Parts): void {
  const { opWeights, opWeightsStart, opWeightsShare, streamMs, residentBytes, payloadBytes } = costs;
  const schemes = costs.schemes.length;
  let stream = 0;
  let bytes = 0;
  let moved = 0;
  let others = 0;
  const end = opWeightsStart[op + 1]!;
  for (let i = opWeightsStart[op]!; i < end; i++) {
    const w = opWeights[i]!;
    const at = w * schemes + scheme[w]!;
    stream += opWeightsShare[i]! * streamMs[at]!;
    moved += opWeightsShare[i]! * residentBytes[at]!;
    bytes += payloadBytes[at]!;
    if (!costs.int8Schemes[scheme[w]!]) others++;
  }
  out.launch = costs.launchMs[op]!;
  out.weights = stream;
  out.payloadBytes = bytes;
  out.movedBytes = moved;
  if (eight >= 0 && others === 0) {
    const { int8Ms } = costs;
    const count = costs.int8Ops.length;
    out.compute = int8Ms[eight]!;
    out.activations = int8Ms[count + eight]!;
    out.products = int8Ms[2 * count + eight]!;
    out.traffic = int8Ms[3 * count + eight]!;
  } else {
    out.compute = costs.computeMs[op]!;
    out.activations = costs.activationMs[op]!;
    out.products = costs.productsMs[op]!;
    out.traffic = costs.trafficMs[op]!;
  }
}

/** Price a plan into `out`: one scheme index a weight, and whether each op reads int8 activations (none by default). */
export function price(costs: Costs, scheme: Uint16Array, out: Priced, int8?: Uint8Array): void {
  const {
    payloadBytes,
    fileBytes,
    shared,
    sharedFileBytes,
    protoBytes,
    residentBytes,
    elements,
    signal,
    squaredError,
  } = costs;
  const { start, lastWeight } = costs;
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
  const sharing = sharedFileBytes.length > 0;
  for (let w = 0; w < scheme.length; w++) {
    const at = w * schemes + scheme[w]!;
    file += fileBytes[at]!;
    if (sharing && w !== lastWeight) markShared(shared, at, stored);
    proto += protoBytes[at]!;
    payload += payloadBytes[at]!;
    resident += residentBytes[at]!;
    count += elements[w]!;
    error += squaredError[at]!;
    squares += signal[w]!;
    if (scheme[w] !== start[w]) changed = true;
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

  const { int8Ops } = costs;
  const { opMs, opBytes, opMj, bound } = out;
  let latency = costs.dispatchMs;
  let energy = costs.dispatchMj;
  let eight = 0;
  for (let o = 0; o < opMs.length; o++) {
    const known = int8Ops[eight] === o ? eight++ : -1;
    takeApart(costs, scheme, o, int8?.[o] ? known : -1, parts);
    const { launch, compute, weights, activations, products, traffic } = parts;
    const memory = weights + activations;
    const busy = Math.max(compute, memory);
    const ms = launch + busy;
    opMs[o] = ms;
    opBytes[o] = parts.payloadBytes;
    const byWeights = memory > (products + traffic) * (1 + costs.rounding);
    bound[o] = launch >= busy ? 0 : byWeights ? 2 : traffic > products ? 3 : 1;
    latency += ms;
    const mj = costs.workMj[o]! + costs.byteMj[o]! * parts.movedBytes + costs.activeW[o]! * ms;
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
