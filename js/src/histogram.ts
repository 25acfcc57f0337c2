/** Small histograms of a column: bins that are readable as a range, and counts of any ops in them. */

export interface Bins {
  /** one more than there are bars, rising; a bar holds what is from its left edge up to, not including, its right one */
  edges: Float64Array;
  /** whether bars are equally wide in the logarithm */
  log: boolean;
  /** whether the first bar holds what is 0, which has no logarithm */
  zero: boolean;
  /** whether each bar holds one whole number */
  whole: boolean;
  /** per op its bar, or NONE */
  bar: Uint8Array;
  /** ops in each bar */
  counts: Uint32Array;
}

export const NONE = 255;
const BARS = 22;
/** values that span more than this are shown by their logarithm */
const LOG_FROM = 50;

/** Bars for these values and for others that the same ops may come to have, so that edges stay while one edits. */
export function binsOf(values: Float64Array, others?: Float64Array): Bins | null {
  let [low, high, least, zero, whole] = [Infinity, -Infinity, Infinity, false, true];
  for (const list of others ? [values, others] : [values])
    for (const value of list) {
      if (!Number.isFinite(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
      if (value > 0 && value < least) least = value;
      if (value === 0) zero = true;
      if (!Number.isInteger(value)) whole = false;
    }
  if (low > high) return null;
  const log = low >= 0 && high / least > LOG_FROM;
  const few = whole && high - low < BARS;
  const edges = log
    ? logEdges(least, high, zero)
    : few
      ? Float64Array.from({ length: high - low + 2 }, (_, i) => low + i)
      : Float64Array.from({ length: BARS + 1 }, (_, i) => low + ((high - low) * i) / BARS);
  const bins: Bins = {
    edges: low === high && !few ? Float64Array.of(low, high) : edges,
    log,
    zero: log && zero,
    whole: !log && few,
    bar: new Uint8Array(values.length),
    counts: new Uint32Array(0),
  };
  const last = bins.edges.length - 2;
  for (let i = 0; i < values.length; i++) bins.bar[i] = barOf(bins, values[i]!, last);
  bins.counts = countsOf(bins);
  return bins;
}

function logEdges(least: number, high: number, zero: boolean): Float64Array {
  const count = zero ? BARS - 1 : BARS;
  const edges = Array.from({ length: count + 1 }, (_, i) => least * (high / least) ** (i / count));
  return Float64Array.from(zero ? [0, ...edges] : edges);
}

function barOf({ edges, log, zero }: Bins, value: number, last: number): number {
  if (Number.isNaN(value)) return NONE;
  const [first, end] = [edges[zero ? 1 : 0]!, edges[last + 1]!];
  if (zero && value < first) return 0;
  const bars = zero ? last : last + 1;
  const part = log
    ? Math.log(value / first) / Math.log(end / first)
    : end > first
      ? (value - first) / (end - first)
      : 0;
  return Math.min(last, Math.max(0, Math.floor(part * bars + 1e-9)) + (zero ? 1 : 0));
}

/** How many of these ops, or of all, are in each bar. */
export function countsOf(bins: Bins, ops?: ArrayLike<number>): Uint32Array {
  const counts = new Uint32Array(bins.edges.length - 1);
  const { bar } = bins;
  const length = ops ? ops.length : bar.length;
  for (let i = 0; i < length; i++) {
    const b = bar[ops ? ops[i]! : i]!;
    if (b !== NONE) counts[b]!++;
  }
  return counts;
}

export type Range = readonly [low: number, high: number];

/** Indices of the edges that are nearest to a range of values. */
export function edgesAt({ edges }: Bins, [low, high]: Range): [number, number] {
  const nearest = (value: number): number => {
    let best = 0;
    for (let i = 1; i < edges.length; i++)
      if (Math.abs(edges[i]! - value) < Math.abs(edges[best]! - value)) best = i;
    return best;
  };
  const from = Math.min(nearest(low), edges.length - 2);
  return [from, Math.max(from + 1, nearest(high))];
}

/** The range between two edges; null for all of it. */
export const rangeBetween = ({ edges }: Bins, from: number, to: number): Range | null =>
  from <= 0 && to >= edges.length - 1 ? null : [edges[from]!, edges[to]!];
