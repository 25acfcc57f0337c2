/** What each column holds of every op under the current plan: what tables sort, filter and count by. */

import type { ColumnKey } from "./columns";
import { BOUNDS } from "./estimate";
import { measuredOp, measuredUnit } from "./measured";
import { decibelsOf, opNoise } from "./sqnr";
import type { Store } from "./store";

/** Fewest bits of the op's weights, and the family that is not float16 if there is one; undefined without weights. */
function stored(store: Store, op: number): { bits: number; family: string } | undefined {
  const costs = store.costs.peek();
  const scheme = store.edits.history.peek().scheme;
  let found: { bits: number; family: string } | undefined;
  for (let i = costs.opWeightsStart[op]!; i < costs.opWeightsStart[op + 1]!; i++) {
    const info = costs.schemes[scheme[costs.opWeights[i]!]!]!;
    if (!found) found = { bits: info.nbits, family: info.familyLabel };
    else if (info.nbits < found.bits) found.bits = info.nbits;
    if (info.family !== costs.schemes[0]!.family) found.family = info.familyLabel;
  }
  return found;
}

/** Elements of the weights that an op reads. */
function elementsOf(store: Store, op: number): number {
  const { opWeights, opWeightsStart, elements } = store.costs.peek();
  let sum = 0;
  for (let i = opWeightsStart[op]!; i < opWeightsStart[op + 1]!; i++) sum += elements[opWeights[i]!]!;
  return sum;
}

const total = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0);

/** What a column of numbers holds of any op under the plan of now; NaN where it has none. */
function reader(store: Store, key: ColumnKey): (op: number) => number {
  const { ops } = store.program.peek();
  const costs = store.costs.peek();
  const { live } = store.prices;
  const ofWeights =
    (value: (op: number) => number) =>
    (op: number): number =>
      costs.opWeightsStart[op] === costs.opWeightsStart[op + 1] ? Number.NaN : value(op);
  switch (key) {
    case "bits":
      return (op) => stored(store, op)?.bits ?? Number.NaN;
    case "bits_per_weight":
      return ofWeights((op) => (8 * live.opBytes[op]!) / elementsOf(store, op));
    case "elements":
      return ofWeights((op) => elementsOf(store, op));
    case "size":
      return ofWeights((op) => live.opBytes[op]!);
    case "size_share": {
      const all = total(live.opBytes);
      return ofWeights((op) => (100 * live.opBytes[op]!) / all);
    }
    case "error": {
      const scheme = store.edits.history.peek().scheme;
      return ofWeights((op) => decibelsOf(opNoise(costs, scheme, op)));
    }
    case "latency":
      return (op) => measuredOp(store, op)?.ms ?? live.opMs[op]!;
    case "latency_share": {
      const all = total(live.opMs);
      return (op) => (100 * live.opMs[op]!) / all;
    }
    case "energy":
      return (op) => 1000 * live.opMj[op]!;
    case "flops":
      return (op) => ops.flops[op]!;
    case "activation_bytes":
      return (op) => ops.activationBytes[op]!;
    // Modules are numbered in the order they run, which serves better than the alphabet.
    case "module":
      return (op) => ops.module[op]!;
    default:
      return () => Number.NaN;
  }
}

export const numberOf = (store: Store, key: ColumnKey, op: number): number => reader(store, key)(op);

/** Numbers of a column, one an op. */
export function numbers(store: Store, key: ColumnKey): Float64Array {
  const read = reader(store, key);
  const values = new Float64Array(store.program.peek().ops.count);
  for (let op = 0; op < values.length; op++) values[op] = read(op);
  return values;
}

/** Text of a column, of any op. */
export function texts(store: Store, key: ColumnKey): (op: number) => string {
  const { ops, modules } = store.program.peek();
  const costs = store.costs.peek();
  switch (key) {
    case "op_type":
      return (op) => ops.opType[op]!;
    case "output":
      return (op) => ops.output[op]!;
    case "module":
      return (op) => modules.path[ops.module[op]!] ?? "";
    case "module_class":
      return (op) => modules.className[ops.module[op]!] ?? "";
    case "source":
      return (op) => ops.source[op]!;
    case "scheme":
      return (op) => stored(store, op)?.family ?? "";
    case "bound":
      return (op) => BOUNDS[store.prices.live.bound[op]!]!;
    case "unit":
      return (op) => measuredUnit(store, op) || (costs.units[costs.unit[op]!] ?? "");
    default:
      return (op) => ops.name[op]!;
  }
}

/** The ops of which a column holds most, the largest first. */
export function largestOps(values: ArrayLike<number>, count: number): number[] {
  const first: number[] = [];
  for (let op = 0; op < values.length; op++) {
    if (first.length === count && values[op]! <= values[first[count - 1]!]!) continue;
    const at = first.findIndex((other) => values[other]! < values[op]!);
    first.splice(at < 0 ? first.length : at, 0, op);
    first.length = Math.min(first.length, count);
  }
  return first;
}
