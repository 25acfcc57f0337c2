/** The timeline's arithmetic: when each op starts, which one is under the pointer, and the modules above. */

import type { Program } from "../protocol";

/** ms at which each op starts, and at the end the sum of all. */
export function startTimes(opMs: ArrayLike<number>, out: Float64Array): Float64Array {
  let at = 0;
  for (let op = 0; op < opMs.length; op++) {
    out[op] = at;
    at += opMs[op]!;
  }
  out[opMs.length] = at;
  return out;
}

/** The op that runs at a time, -1 before the first and after the last. */
export function opAt(starts: Float64Array, ms: number): number {
  const last = starts.length - 1;
  if (last < 1 || ms < 0 || ms >= starts[last]!) return -1;
  let [low, high] = [0, last];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (starts[middle]! <= ms) low = middle;
    else high = middle;
  }
  return low;
}

/** Wider columns have a pixel between them. */
const APART = 3;

/**
 * The columns of a picture of ops: those narrower than a pixel share one, which shows the value of the one with most
 * bytes, and neighbours that touch and show the same are drawn as one.
 *
 * @param x where an op begins, in pixels
 */
export function eachColumn(
  x: (op: number) => number,
  [first, end]: readonly [number, number],
  bytes: ArrayLike<number>,
  shows: ArrayLike<number>,
  draw: (left: number, width: number, value: number) => void,
): void {
  let [from, to, value] = [0, 0, Number.NaN];
  for (let op = first; op < end; ) {
    const left = x(op);
    let [next, largest] = [op + 1, op];
    while (next < end && x(next) - left < 1) {
      if (bytes[next]! > bytes[largest]!) largest = next;
      next++;
    }
    const right = x(next);
    if (right - left > APART) {
      flush();
      draw(left, right - left - 1, shows[largest]!);
    } else if (shows[largest] === value) {
      to = right;
    } else {
      flush();
      [from, to, value] = [left, right, shows[largest]!];
    }
    op = next;
  }
  flush();

  function flush(): void {
    if (!Number.isNaN(value)) draw(from, Math.max(to - from, 0.5), value);
    value = Number.NaN;
  }
}

/** What part of the timeline is shown, in ms. */
export interface Span {
  from: number;
  to: number;
}

/** Zoomed about a time, never beyond the whole and never closer than a thousandth of it. */
export function zoomed(span: Span, factor: number, about: number, whole: number): Span {
  const length = Math.min(whole, Math.max(whole / 1000, (span.to - span.from) / factor));
  const share = span.to > span.from ? (about - span.from) / (span.to - span.from) : 0.5;
  return shifted({ from: about - share * length, to: about + (1 - share) * length }, 0, whole);
}

export function shifted(span: Span, by: number, whole: number): Span {
  const length = Math.min(whole, span.to - span.from);
  const from = Math.min(whole - length, Math.max(0, span.from + by));
  return { from, to: from + length };
}

/** Ops in a row that are of one module. */
export interface Run {
  module: number;
  first: number;
  /** the op after the last */
  end: number;
}

/** One list of runs for each depth of the module tree, outermost first; the root, which holds all, is left out. */
export function moduleRuns(program: Program): Run[][] {
  const { parent, count } = program.modules;
  const depth = new Int32Array(count);
  for (let m = 0; m < count; m++) depth[m] = parent[m]! < 0 ? 0 : depth[parent[m]!]! + 1;
  const deepest = depth.reduce((a, b) => Math.max(a, b), 0);
  const levels: Run[][] = [];
  for (let level = 1; level <= deepest; level++) {
    const ancestor = Int32Array.from({ length: count }, (_, m) => m);
    // Parents come before their children.
    for (let m = 0; m < count; m++) if (depth[m]! > level) ancestor[m] = ancestor[parent[m]!]!;
    const runs: Run[] = [];
    program.ops.module.forEach((m, op) => {
      const module = m >= 0 && m < count ? ancestor[m]! : 0;
      const last = runs[runs.length - 1];
      if (last?.module === module) last.end = op + 1;
      else runs.push({ module, first: op, end: op + 1 });
    });
    levels.push(runs);
  }
  return levels;
}

/** The outermost level that tells modules apart, and the innermost one of which `most` runs fit; one list if equal. */
export function levelsToShow(levels: Run[][], first: number, end: number, most: number): Run[][] {
  const inside = levels.map((runs) => runs.filter((run) => run.first < end && run.end > first));
  const outer = inside.findIndex((runs) => runs.length > 1);
  if (outer < 0) return inside.slice(-1);
  let inner = outer;
  inside.forEach((runs, level) => {
    if (runs.length > inside[inner]!.length && runs.length <= most) inner = level;
  });
  return inner > outer ? [inside[outer]!, inside[inner]!] : [inside[outer]!];
}
