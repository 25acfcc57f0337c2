/** Module tree → what is on screen: collapsed modules as boxes, expanded ones as frames, edges between them. */

import type { Program } from "../protocol";
import { findFollowers, repeatsIn, runsOf } from "./stacks";

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
  /** the first op of each module or of any inside it */
  first: Int32Array;
  /** the module in whose box each op is: blocks.py's tree, in which equal modules have equal ops */
  opModule: Int32Array;
  /** 1 for a module that repeats the sibling before it; see stacks.ts */
  follows: Uint8Array;
  path: string[];
}

/** A box of the picture: a module, a run of equal ones, or a single op. Parents come before their children. */
export interface Item {
  id: number;
  kind: "module" | "stack" | "op";
  /** module index (the first one of a stack) or op index */
  index: number;
  /** the modules that it stands for; none for an op */
  modules: readonly number[];
  /** how many equal modules it holds, for a stack and for a module that is nothing but such a run; else 1 */
  repeats: number;
  label: string;
  /** id of the frame around it, -1 at the top */
  parent: number;
  level: number;
  expanded: boolean;
  expandable: boolean;
  children: number[];
}

/** What says in a set that a box is open: the module, or ~module for the stack that begins with it. */
export const keyOf = (item: Pick<Item, "kind" | "index">): number =>
  item.kind === "stack" ? ~item.index : item.index;

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
  const opModule = Int32Array.from({ length: program.ops.count }, (_, op) => program.tree.leaf[op] ?? 0);
  const ops: number[][] = Array.from({ length: count }, () => []);
  const opCount = new Int32Array(count);
  const first = new Int32Array(count).fill(2 ** 31 - 1);
  opModule.forEach((m, op) => {
    ops[m]!.push(op);
    opCount[m]!++;
    if (op < first[m]!) first[m] = op;
  });
  const children: number[][] = Array.from({ length: count }, () => []);
  for (let m = count - 1; m > 0; m--) {
    const p = parent[m]!;
    opCount[p]! += opCount[m]!;
    first[p] = Math.min(first[p]!, first[m]!);
    if (opCount[m]! > 0) children[p]!.push(m);
  }
  for (const list of children) list.sort((a, b) => first[a]! - first[b]!);
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
  const names = path.length > 0 ? path : [""];
  const tree = { parent, children, ops, enter, exit, opCount, first, opModule, path: names };
  return { ...tree, follows: findFollowers(program, tree) };
}

export const isInside = (
  tree: Pick<ModuleTree, "enter" | "exit">,
  module: number,
  ancestor: number,
): boolean => tree.enter[ancestor]! <= tree.enter[module]! && tree.enter[module]! < tree.exit[ancestor]!;

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

const OPENING_BOXES = 4;
const OPENING_LIMIT = 48;

/**
 * Modules to open at first, so that one sees several boxes and no wall of them: while few are there and a module that
 * is not itself a stack holds most of the ops, it is opened.
 */
export function openingModules(tree: ModuleTree): Set<number> {
  const expanded = new Set<number>();
  let visible = inside(tree, 0);
  let loose = tree.ops[unwrapped(tree, 0)]!.length;
  while (visible.length < OPENING_BOXES) {
    const single = visible.filter((run) => run.length === 1).map((run) => run[0]!);
    const largest = single.find(
      (m) => repeatsIn(tree, m) === 1 && tree.opCount[m]! * 2 >= tree.opModule.length,
    );
    if (largest === undefined) break;
    const inner = inside(tree, largest);
    const innerOps = tree.ops[largest]!.length;
    if (inner.length === 0 || visible.length + inner.length + loose + innerOps > OPENING_LIMIT) break;
    expanded.add(largest);
    visible = [...visible.filter((run) => run[0] !== largest), ...inner];
    loose += innerOps;
  }
  return expanded;
}

/** What a module holds, as shown: wrappers skipped, equal modules together. */
function inside(tree: ModuleTree, module: number): number[][] {
  return runsOf(tree, tree.children[unwrapped(tree, module)]!).map((run) =>
    run.length === 1 ? [unwrapped(tree, run[0]!)] : run,
  );
}

function labelOf(tree: ModuleTree, module: number, frame: number): string {
  const path = tree.path[module]!;
  const prefix = frame >= 0 ? tree.path[frame]! : "";
  const label = prefix !== "" && path.startsWith(`${prefix}.`) ? path.slice(prefix.length + 1) : path;
  return label === "" ? "model" : label;
}

/** "encoder.layer.0 – 5": the first of a run and the end of the last one's path. */
function stackLabel(tree: ModuleTree, run: readonly number[], frame: number): string {
  const last = tree.path[run[run.length - 1]!]!;
  return `${labelOf(tree, run[0]!, frame)} – ${last.slice(last.lastIndexOf(".") + 1)}`;
}

export function buildScene(program: Program, tree: ModuleTree, expanded: ReadonlySet<number>): Scene {
  const items: Item[] = [];
  const itemOfOp = new Int32Array(program.ops.count).fill(-1);
  const itemOfModule = new Int32Array(tree.parent.length || 1).fill(-1);

  type Made = Pick<Item, "kind" | "index" | "modules" | "repeats" | "label">;
  const add = (made: Made, parent: number, level: number): Item => {
    const expandable = made.kind !== "op";
    const open = expandable && expanded.has(keyOf(made));
    const item: Item = {
      ...made,
      id: items.length,
      parent,
      level,
      expandable,
      expanded: open,
      children: [],
    };
    items.push(item);
    if (!open) for (const m of item.modules) itemOfModule[m] = item.id;
    return item;
  };
  const addOp = (op: number, frame: number, level: number): number => {
    const label = program.ops.opType[op] ?? "";
    itemOfOp[op] = items.length;
    return add({ kind: "op", index: op, modules: [], repeats: 1, label }, frame, level).id;
  };
  const frameModule = (frame: number): number => {
    if (frame < 0) return -1;
    const { kind, index } = items[frame]!;
    return kind === "stack" ? tree.parent[index]! : index;
  };
  const addModule = (outer: number, frame: number, level: number): number => {
    const index = unwrapped(tree, outer);
    const label = labelOf(tree, index, frameModule(frame));
    const repeats = repeatsIn(tree, index);
    const item = add({ kind: "module", index, modules: [index], repeats, label }, frame, level);
    if (item.expanded) item.children = addInside(index, item.id, level + 1);
    return item.id;
  };
  const addStack = (modules: number[], frame: number, level: number): number => {
    const label = stackLabel(tree, modules, frameModule(frame));
    const made: Made = { kind: "stack", index: modules[0]!, modules, repeats: modules.length, label };
    const item = add(made, frame, level);
    if (item.expanded) item.children = modules.map((m) => addModule(m, item.id, level + 1));
    return item.id;
  };
  const addInside = (module: number, frame: number, level: number): number[] => {
    const inner = unwrapped(tree, module);
    const ids: number[] = [];
    const modules = tree.children[inner]!;
    const direct = tree.ops[inner]!;
    // The box of a module that is one run was drawn as the stack; opened, it shows the modules themselves.
    const whole = frame >= 0 && items[frame]!.repeats > 1;
    // Modules and loose ops are merged by execution order so that the tree reads in the order things run.
    let d = 0;
    for (const run of whole ? modules.map((m) => [m]) : runsOf(tree, modules)) {
      for (; d < direct.length && direct[d]! < tree.first[run[0]!]!; d++)
        ids.push(addOp(direct[d]!, frame, level));
      ids.push(run.length > 1 ? addStack(run, frame, level) : addModule(run[0]!, frame, level));
    }
    for (; d < direct.length; d++) ids.push(addOp(direct[d]!, frame, level));
    return ids;
  };

  const roots = addInside(0, -1, 1);
  // A collapsed module stands for everything below it; parents have smaller indices, so one pass suffices.
  for (let m = 1; m < itemOfModule.length; m++)
    if (itemOfModule[m] === -1 && tree.parent[m]! >= 0) itemOfModule[m] = itemOfModule[tree.parent[m]!]!;
  for (let op = 0; op < itemOfOp.length; op++)
    if (itemOfOp[op] === -1) itemOfOp[op] = itemOfModule[tree.opModule[op]!]!;
  return { items, roots, edges: liftEdges(program.edges, items, itemOfOp), itemOfOp };
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
