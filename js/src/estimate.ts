/**
 * The arithmetic of estimate.py on typed arrays; held to it within 1e-9 by tests/fixtures/estimates.json.
 * Nothing is allocated per call: one `Priced` is reused for the life of a cost table, and what did not change since the
 * plan that it held before is not found again.
 */

import type { Costs } from "./protocol";
import { roundingsGrowth } from "./roundings";

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
  /** what int8 activations add to the proto */
  roundingBytes: number;
  /** how many weights name each shared tensor, but for the weight that ends the file */
  stored: Int32Array;
  /** per weight: bytes of its tensors, of the file and of the proto, memory, and squared error */
  weightBytes: Float64Array;
  weightFile: Float64Array;
  weightProto: Float64Array;
  weightMemory: Float64Array;
  weightSquares: Float64Array;
  opMs: Float64Array;
  opBytes: Float64Array;
  opMj: Float64Array;
  /** index into BOUNDS */
  bound: Uint8Array;
  /** the plan that all this is of; before the first one, every scheme is NONE */
  scheme: Uint16Array;
  int8: Uint8Array;
}

/** What is known of the plan as a whole, to keep: a `Priced` is overwritten. */
export type Totals = Pick<
  Priced,
  { [K in keyof Priced]: Priced[K] extends number ? K : never }[keyof Priced]
>;

export function totalsOf(priced: Priced): Totals {
  const numbers = Object.entries(priced).filter(([, value]) => typeof value === "number");
  return Object.fromEntries(numbers) as unknown as Totals;
}

const NONE = 0xffff;

export function createPriced(costs: Costs): Priced {
  const ops = costs.launchMs.length;
  const weights = costs.elements.length;
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
    roundingBytes: 0,
    stored: new Int32Array(costs.sharedFileBytes.length),
    weightBytes: new Float64Array(weights),
    weightFile: new Float64Array(weights),
    weightProto: new Float64Array(weights),
    weightMemory: new Float64Array(weights),
    weightSquares: new Float64Array(weights),
    opMs: new Float64Array(ops),
    opBytes: new Float64Array(ops),
    opMj: new Float64Array(ops),
    bound: new Uint8Array(ops),
    scheme: new Uint16Array(weights).fill(NONE),
    // Neither float nor int8: the first plan prices every op.
    int8: new Uint8Array(ops).fill(2),
  };
}

/** Bytes of a whole number in a proto beyond the first: seven bits go into each. */
function extraBytes(offset: number): number {
  let bytes = 0;
  for (let limit = 128; offset >= limit; limit *= 128) bytes++;
  return bytes;
}

/** Bytes of all offsets that the program proto holds, but one for each; `offset_bytes` of estimate.py. */
function offsetBytes(costs: Costs, scheme: Uint16Array): number {
  const { fixedRecords, fileBytes, tensors } = costs;
  const schemes = costs.schemes.length;
  let at = FILE_HEADER_BYTES;
  let bytes = 0;
  let record = 0;
  // Offsets grow, so what each takes beyond one byte only grows too.
  let extra = extraBytes(at);
  let limit = 128 ** (extra + 1);
  const advance = (by: number): void => {
    at += by;
    for (; at >= limit; limit *= 128) extra++;
  };
  for (let w = 0; w <= scheme.length; w++) {
    for (; record < fixedRecords.length && fixedRecords[record]! <= w; record += 2) {
      bytes += extra;
      advance(fixedRecords[record + 1]!);
    }
    if (w === scheme.length) break;
    const entry = w * schemes + scheme[w]!;
    const count = tensors[entry]!;
    if (count > 0) bytes += extra;
    advance(fileBytes[entry]!);
    if (count > 1) bytes += (count - 1) * extra;
  }
  return bytes;
}

const ofStart = new WeakMap<Costs, number>();

/** The same of the model as it was loaded, found once. */
function startOffsetBytes(costs: Costs): number {
  const found = ofStart.get(costs) ?? offsetBytes(costs, costs.start);
  ofStart.set(costs, found);
  return found;
}

/** By how much the proto grows apart from its ops: offsets, build information, lengths of the messages around. */
function restOfGrowth(costs: Costs, scheme: Uint16Array, ops: number): number {
  const { enclosingBytes, buildInfoBytes } = costs;
  const offsets = offsetBytes(costs, scheme) - startOffsetBytes(costs);
  const growth = offsets + ops;
  let lengths = 0;
  for (let m = 0; m < enclosingBytes.length; m++) {
    const before = enclosingBytes[m]!;
    const lost = m === enclosingBytes.length - 1 ? buildInfoBytes : 0;
    lengths += extraBytes(before + growth + lengths - lost) - extraBytes(before);
  }
  return offsets + lengths - buildInfoBytes;
}

/** Count what a weight under a scheme shares, or take it out of the count. */
function countShared(shared: Int32Array, at: number, stored: Int32Array, by: 1 | -1): void {
  for (let slot = at * SHARED_SLOTS; slot < (at + 1) * SHARED_SLOTS; slot++)
    if (shared[slot]! >= 0) stored[shared[slot]!]! += by;
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
  priceOps(costs, scheme, out, int8);
  priceWeights(costs, scheme, out);
  out.scheme.set(scheme);
}

/** Look up the weights that have another scheme than before, and add all of them up. */
function priceWeights(costs: Costs, scheme: Uint16Array, out: Priced): void {
  const { shared, sharedFileBytes, elements, signal, start, lastWeight } = costs;
  const { stored, weightBytes, weightFile, weightProto, weightMemory, weightSquares } = out;
  const schemes = costs.schemes.length;
  const sharing = sharedFileBytes.length > 0;
  for (let w = 0; w < scheme.length; w++) {
    const before = out.scheme[w]!;
    if (scheme[w] === before) continue;
    const at = w * schemes + scheme[w]!;
    weightFile[w] = costs.fileBytes[at]!;
    weightProto[w] = costs.protoBytes[at]!;
    weightBytes[w] = costs.payloadBytes[at]!;
    weightMemory[w] = costs.residentBytes[at]!;
    weightSquares[w] = costs.squaredError[at]!;
    if (!sharing || w === lastWeight) continue;
    if (before !== NONE) countShared(shared, w * schemes + before, stored, -1);
    countShared(shared, at, stored, 1);
  }
  let [file, proto, payload, resident] = [0, 0, 0, 0];
  let [count, error, squares] = [0, 0, 0];
  let changed = false;
  for (let w = 0; w < scheme.length; w++) {
    file += weightFile[w]!;
    proto += weightProto[w]!;
    payload += weightBytes[w]!;
    resident += weightMemory[w]!;
    error += weightSquares[w]!;
    count += elements[w]!;
    squares += signal[w]!;
    if (scheme[w] !== start[w]) changed = true;
  }
  if (lastWeight >= 0) {
    // Its last tensor ends the file, unless another weight has stored an equal one before.
    const s = scheme[lastWeight]!;
    const tail = costs.tailShared[s]!;
    file -= costs.tailBytes[2 * s + (tail >= 0 && stored[tail]! > 0 ? 1 : 0)]!;
    countShared(shared, lastWeight * schemes + s, stored, 1);
  }
  for (let s = 0; s < stored.length; s++) if (stored[s]! > 0) file += sharedFileBytes[s]!;
  if (lastWeight >= 0) countShared(shared, lastWeight * schemes + scheme[lastWeight]!, stored, -1);
  out.weightFileBytes = costs.fixedFileBytes + file;
  proto += out.roundingBytes;
  if (changed || out.roundingBytes !== 0) proto += restOfGrowth(costs, scheme, proto);
  out.sizeBytes = out.weightFileBytes + costs.fixedProtoBytes + proto;
  out.weightError = error === 0 && !Number.isNaN(squares) ? 0 : error / squares;
  out.bitsPerWeight = count > 0 ? (8 * payload) / count : 0;
  out.peakMemoryBytes = costs.fixedMemoryBytes + resident;
}

/** Price the ops of which a weight or the activations are not what they were, and add all of them up. */
function priceOps(costs: Costs, scheme: Uint16Array, out: Priced, int8?: Uint8Array): void {
  const { int8Ops, opWeights, opWeightsStart } = costs;
  const { opMs, opBytes, opMj, bound } = out;
  let latency = costs.dispatchMs;
  let energy = costs.dispatchMj;
  let eight = 0;
  let toggled = false;
  for (let o = 0; o < opMs.length; o++) {
    const known = int8Ops[eight] === o ? eight++ : -1;
    const flag = int8?.[o] ? 1 : 0;
    let same = out.int8[o] === flag;
    if (!same) toggled = true;
    const end = opWeightsStart[o + 1]!;
    for (let i = opWeightsStart[o]!; same && i < end; i++)
      same = scheme[opWeights[i]!] === out.scheme[opWeights[i]!];
    if (!same) {
      out.int8[o] = flag;
      takeApart(costs, scheme, o, flag ? known : -1, parts);
      const { launch, compute, weights, activations, products, traffic } = parts;
      const memory = weights + activations;
      const busy = Math.max(compute, memory);
      const ms = launch + busy;
      opMs[o] = ms;
      opBytes[o] = parts.payloadBytes;
      opMj[o] = costs.workMj[o]! + costs.byteMj[o]! * parts.movedBytes + costs.activeW[o]! * ms;
      const byWeights = memory > (products + traffic) * (1 + costs.rounding);
      bound[o] = launch >= busy ? 0 : byWeights ? 2 : traffic > products ? 3 : 1;
    }
    latency += opMs[o]!;
    energy += opMj[o]!;
  }
  if (toggled) out.roundingBytes = roundingsGrowth(costs.roundings, out.int8);
  out.latencyMs = latency;
  const change = costs.startMs > 0 ? Math.abs(Math.log(latency / costs.startMs)) : 0;
  const wider = costs.spread * Math.min(1, change / costs.largeChange);
  out.lowMs = latency * Math.exp(-Math.hypot(Math.log(costs.interval[0]), wider));
  out.highMs = latency * Math.exp(Math.hypot(Math.log(costs.interval[1]), wider));
  out.energyMj = energy;
  out.lowMj = energy / costs.energyFactor;
  out.highMj = energy * costs.energyFactor;
}
