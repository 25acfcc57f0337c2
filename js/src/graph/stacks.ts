/** Equal modules that run one after the other, as the layers of a transformer do: the graph draws them as one stack. */

import type { Program } from "../protocol";
import { isInside, type ModuleTree } from "./collapse";

/**
 * Per module, whether it is built like the sibling that runs before it, reads from it, and nothing of the module
 * around them runs in between. Branches that are alike (query, key and value) read from a common input, so they are
 * none.
 */
export function findFollowers(program: Program, tree: Omit<ModuleTree, "follows">): Uint8Array {
  const { alike } = program.modules;
  const before = new Int32Array(tree.parent.length || 1).fill(-1);
  tree.children.forEach((siblings, m) => {
    const own = tree.ops[m]!;
    for (let i = 1, d = 0; i < siblings.length; i++) {
      const [a, b] = [siblings[i - 1]!, siblings[i]!];
      while (d < own.length && own[d]! < tree.first[a]!) d++;
      const between = d < own.length && own[d]! < tree.first[b]!;
      if (!between && alike[a]! >= 0 && alike[a] === alike[b]) before[b] = a;
    }
  });
  const follows = new Uint8Array(before.length);
  const { edges } = program;
  for (let e = 0; e < edges.length; e += 2) {
    const producer = tree.opModule[edges[e]!]!;
    for (let m = tree.opModule[edges[e + 1]!]!; m >= 0; m = tree.parent[m] ?? -1) {
      if (isInside(tree, producer, m)) break;
      if (before[m]! >= 0 && isInside(tree, producer, before[m]!)) follows[m] = 1;
    }
  }
  return follows;
}

/** How many equal modules a module is nothing but a chain of; 1 for any other. */
export function repeatsIn(tree: ModuleTree, module: number): number {
  const siblings = tree.children[module]!;
  if (siblings.length < 2 || tree.ops[module]!.length > 0) return 1;
  return siblings.every((m, i) => i === 0 || tree.follows[m]) ? siblings.length : 1;
}

/** Siblings in runs: those that follow each other are together, any other is by itself. */
export function runsOf(tree: ModuleTree, siblings: readonly number[]): number[][] {
  const runs: number[][] = [];
  for (const m of siblings) {
    if (runs.length > 0 && tree.follows[m]) runs[runs.length - 1]!.push(m);
    else runs.push([m]);
  }
  return runs;
}
