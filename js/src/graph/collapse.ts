/** Module tree → what is on screen: collapsed modules as boxes, expanded ones as frames, edges between them. */

import type { Program } from "../protocol";

export interface ModuleTree {
  parent: Int32Array;
  /** child modules that hold ops, in execution order */
  children: number[][];
  /** ops directly in each module, in execution order */
  ops: number[][];
  /** preorder interval: m is inside a when enter[a] <= enter[m] < exit[a] */
  enter: Int32Array;
  exit: Int32Array;
  opCount: Int32Array;
  opModule: Int32Array;
  path: string[];
}

/** A box of the picture: a module or a single op. Parents come before their children. */
export interface Item {
  id: number;
  kind: "module" | "op";
  /** module index or op index */
  index: number;
  label: string;
  /** id of the frame around it, -1 at the top */
  parent: number;
  level: number;
  expanded: boolean;
  expandable: boolean;
  children: number[];
}

export interface Scene {
  items: Item[];
  roots: number[];
  /** edges between siblings, by the id of their frame (-1 at the top): from, to, from, to, … as item ids */
  edges: Map<number, number[]>;
  /** item that stands for each op */
  itemOfOp: Int32Array;
}

export function buildTree(program: Program): ModuleTree {
  const { parent, path } = program.modules;
  const count = Math.max(1, program.modules.count);
  const opModule = Int32Array.from(program.ops.module, (m) => (m >= 0 && m < count ? m : 0));
  const ops: number[][] = Array.from({ length: count }, () => []);
  const opCount = new Int32Array(count);
  const firstOp = new Int32Array(count).fill(2 ** 31 - 1);
  opModule.forEach((m, op) => {
    ops[m]!.push(op);
    opCount[m]!++;
    if (op < firstOp[m]!) firstOp[m] = op;
  });
  const children: number[][] = Array.from({ length: count }, () => []);
  for (let m = count - 1; m > 0; m--) {
    const p = parent[m]!;
    opCount[p]! += opCount[m]!;
    firstOp[p] = Math.min(firstOp[p]!, firstOp[m]!);
    if (opCount[m]! > 0) children[p]!.push(m);
  }
  for (const list of children) list.sort((a, b) => firstOp[a]! - firstOp[b]!);
  const enter = new Int32Array(count);
  const exit = new Int32Array(count);
  let clock = 0;
  const stack: [number, number][] = [[0, 0]];
  enter[0] = clock++;
  while (stack.length > 0) {
    const top = stack[stack.length - 1]!;
    const child = children[top[0]]![top[1]++];
    if (child === undefined) {
      exit[top[0]] = clock;
      stack.pop();
    } else {
      enter[child] = clock++;
      stack.push([child, 0]);
    }
  }
  return { parent, children, ops, enter, exit, opCount, opModule, path: path.length > 0 ? path : [""] };
}

export const isInside = (tree: ModuleTree, module: number, ancestor: number): boolean =>
  tree.enter[ancestor]! <= tree.enter[module]! && tree.enter[module]! < tree.exit[ancestor]!;

export function opsInside(tree: ModuleTree, module: number): number[] {
  const out: number[] = [];
  for (let op = 0; op < tree.opModule.length; op++)
    if (isInside(tree, tree.opModule[op]!, module)) out.push(op);
  return out;
}

/** A module that only wraps another one is shown as the inner one ("encoder.layer"). */
function unwrapped(tree: ModuleTree, module: number): number {
  let m = module;
  while (tree.ops[m]!.length === 0 && tree.children[m]!.length === 1) m = tree.children[m]![0]!;
  return m;
}

const OPENING_MODULES = 4;
const OPENING_LIMIT = 48;

/**
 * Modules to open at first, so that one sees several modules and no wall of boxes: while few modules are there and
 * one of them holds most of the ops, it is opened.
 */
export function openingModules(tree: ModuleTree): Set<number> {
  const expanded = new Set<number>();
  let visible = topLevel(tree, 0);
  let loose = tree.ops[unwrapped(tree, 0)]!.length;
  for (;;) {
    if (visible.length >= OPENING_MODULES) break;
    const largest = visible.reduce((a, b) => (tree.opCount[b]! > tree.opCount[a]! ? b : a), visible[0] ?? -1);
    if (largest < 0 || tree.opCount[largest]! * 2 < tree.opModule.length) break;
    const inner = topLevel(tree, largest);
    const innerOps = tree.ops[largest]!.length;
    if (inner.length === 0 || visible.length + inner.length + loose + innerOps > OPENING_LIMIT) break;
    expanded.add(largest);
    visible = [...visible.filter((m) => m !== largest), ...inner];
    loose += innerOps;
  }
  return expanded;
}

/** Child modules as shown: wrappers skipped. */
function topLevel(tree: ModuleTree, module: number): number[] {
  return tree.children[unwrapped(tree, module)]!.map((m) => unwrapped(tree, m));
}

function labelOf(tree: ModuleTree, module: number, frame: number): string {
  const path = tree.path[module]!;
  const prefix = frame >= 0 ? tree.path[frame]! : "";
  const label = prefix !== "" && path.startsWith(`${prefix}.`) ? path.slice(prefix.length + 1) : path;
  return label === "" ? "model" : label;
}

export function buildScene(program: Program, tree: ModuleTree, expanded: ReadonlySet<number>): Scene {
  const items: Item[] = [];
  const itemOfOp = new Int32Array(program.ops.count).fill(-1);
  const itemOfModule = new Int32Array(tree.parent.length || 1).fill(-1);

  const addChildren = (module: number, frame: number, level: number): number[] => {
    const inner = unwrapped(tree, module);
    const ids: number[] = [];
    const modules = tree.children[inner]!;
    const direct = tree.ops[inner]!;
    // Modules and loose ops are merged by execution order so that the tree reads in the order things run.
    let d = 0;
    for (const child of modules) {
      const first = firstOpOf(tree, child);
      for (; d < direct.length && direct[d]! < first; d++) ids.push(addOp(direct[d]!, frame, level));
      ids.push(addModule(unwrapped(tree, child), frame, level));
    }
    for (; d < direct.length; d++) ids.push(addOp(direct[d]!, frame, level));
    return ids;
  };
  const addOp = (op: number, frame: number, level: number): number => {
    const id = items.length;
    const label = program.ops.opType[op] ?? "";
    items.push({
      id,
      kind: "op",
      index: op,
      label,
      parent: frame,
      level,
      expanded: false,
      expandable: false,
      children: [],
    });
    itemOfOp[op] = id;
    return id;
  };
  const addModule = (module: number, frame: number, level: number): number => {
    const id = items.length;
    const open = expanded.has(module);
    const frameModule = frame >= 0 ? items[frame]!.index : -1;
    const item: Item = {
      id,
      kind: "module",
      index: module,
      label: labelOf(tree, module, frameModule),
      parent: frame,
      level,
      expanded: open,
      expandable: true,
      children: [],
    };
    items.push(item);
    if (open) item.children = addChildren(module, id, level + 1);
    else itemOfModule[module] = id;
    return id;
  };

  const roots = addChildren(0, -1, 1);
  // A collapsed module stands for everything below it; parents have smaller indices, so one pass suffices.
  for (let m = 1; m < itemOfModule.length; m++)
    if (itemOfModule[m] === -1 && tree.parent[m]! >= 0) itemOfModule[m] = itemOfModule[tree.parent[m]!]!;
  for (let op = 0; op < itemOfOp.length; op++)
    if (itemOfOp[op] === -1) itemOfOp[op] = itemOfModule[tree.opModule[op]!]!;
  return { items, roots, edges: liftEdges(program.edges, items, itemOfOp), itemOfOp };
}

function firstOpOf(tree: ModuleTree, module: number): number {
  let best = tree.ops[module]![0] ?? Number.POSITIVE_INFINITY;
  const child = tree.children[module]![0];
  if (child !== undefined) best = Math.min(best, firstOpOf(tree, child));
  return best;
}

/** Each op edge appears once: between the two siblings in the innermost frame that holds both ends. */
function liftEdges(opEdges: Int32Array, items: Item[], itemOfOp: Int32Array): Map<number, number[]> {
  const edges = new Map<number, number[]>();
  const seen = new Set<number>();
  for (let e = 0; e < opEdges.length; e += 2) {
    let a = itemOfOp[opEdges[e]!] ?? -1;
    let b = itemOfOp[opEdges[e + 1]!] ?? -1;
    if (a < 0 || b < 0) continue;
    while (items[a]!.parent !== items[b]!.parent) {
      if (items[a]!.level >= items[b]!.level) a = items[a]!.parent;
      else b = items[b]!.parent;
    }
    if (a === b) continue;
    const key = a * items.length + b;
    if (seen.has(key)) continue;
    seen.add(key);
    const frame = items[a]!.parent;
    const list = edges.get(frame);
    if (list) list.push(a, b);
    else edges.set(frame, [a, b]);
  }
  return edges;
}
