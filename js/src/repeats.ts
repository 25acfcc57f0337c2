/** The same ops in all modules that are built alike: the query projections of all layers, found from one of them. */

import type { Program } from "./protocol";

/** What the selection lies in that occurs more than once. */
export interface Repeats {
  /** the same ops everywhere, those that were asked for among them */
  ops: number[];
  /** how many modules are built alike, of the kind that occurs most often here */
  count: number;
  /** how many of the ops that were asked for lie in nothing that is repeated */
  outside: number;
}

const known = new WeakMap<Program, Map<number, number[]>>();

/** Modules by what they are built like, in their order. */
export function alikeModules(program: Program): Map<number, number[]> {
  let found = known.get(program);
  if (!found) {
    found = new Map();
    program.modules.alike.forEach((block, m) => {
      if (block < 0) return;
      const list = found!.get(block);
      if (list) list.push(m);
      else found!.set(block, [m]);
    });
    known.set(program, found);
  }
  return found;
}

/** The largest module around the op that is built like another, or -1. */
function repeatedAround(program: Program, leaf: number): number {
  const alike = alikeModules(program);
  const { modules } = program;
  let largest = -1;
  for (let m = leaf; m >= 0; m = modules.parent[m] ?? -1)
    if ((alike.get(modules.alike[m]!)?.length ?? 0) > 1) largest = m;
  return largest;
}

/** Null where the ops lie in nothing that is repeated. */
export function repeatsOf(program: Program, ops: readonly number[]): Repeats | null {
  const { modules, tree } = program;
  if (tree.order.length !== program.ops.count) return null;
  const place = places(program);
  const around = new Map<number, number>();
  const all = new Set(ops);
  const done = new Set<number>();
  let [count, outside] = [0, 0];
  for (const op of ops) {
    const leaf = tree.leaf[op]!;
    const block = around.get(leaf) ?? repeatedAround(program, leaf);
    around.set(leaf, block);
    if (block < 0) {
      outside++;
      continue;
    }
    const twins = alikeModules(program).get(modules.alike[block]!)!;
    count = Math.max(count, twins.length);
    const offset = place[op]! - modules.start[block]!;
    // Twins that are asked for too say the same once more.
    const seen = modules.alike[block]! * program.ops.count + offset;
    if (done.has(seen)) continue;
    done.add(seen);
    for (const twin of twins) all.add(tree.order[modules.start[twin]! + offset]!);
  }
  return count > 0 ? { ops: [...all], count, outside } : null;
}

const placed = new WeakMap<Program, Int32Array>();

/** Where each op stands in the order of the tree. */
function places(program: Program): Int32Array {
  let found = placed.get(program);
  if (!found) {
    found = new Int32Array(program.ops.count);
    program.tree.order.forEach((op, i) => {
      found![op] = i;
    });
    placed.set(program, found);
  }
  return found;
}
