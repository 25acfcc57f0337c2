/**
 * Positions of a scene. Each frame is laid out by itself and then placed as one node in the frame around it, so
 * expanding a module moves only what is around it, and frames of equal shape share one layout.
 */

import { layout as dagreLayout, Graph } from "@dagrejs/dagre";
import type { Scene } from "./collapse";

export interface Layout {
  /** x, y, width, height of each item */
  boxes: Float64Array;
  edges: { from: number; to: number; points: number[] }[];
  width: number;
  height: number;
}

interface Level {
  x: number[];
  y: number[];
  width: number;
  height: number;
  edges: { from: number; to: number; points: number[] }[];
}

export const BOX_HEIGHT = 26;
export const OP_HEIGHT = 20;
export const FRAME_TITLE = 24;
/** Room beside the label of a stack for how many there are. */
const STACK_FIGURES = 124;
/** The least of a module; ops are as wide as what they say, for they are many and it is modules that one looks for. */
const MODULE_WIDTH = 124;
const FRAME_PAD = 12;
const NODE_GAP = 14;
const RANK_GAP = 18;
/** Beyond this, crossing minimisation costs more than it shows. */
const DAGRE_LIMIT = 240;

const cache = new Map<string, Level>();
const CACHE_LIMIT = 200;

export function layoutScene(scene: Scene): Layout {
  const { items } = scene;
  const boxes = new Float64Array(items.length * 4);
  const edges: Layout["edges"] = [];
  const levels = new Map<number, Level>();

  // Children come after their frame, so walking backwards sizes the inside before the outside.
  for (let id = items.length - 1; id >= 0; id--) {
    const item = items[id]!;
    if (item.expanded) {
      const level = layoutLevel(item.children, scene.edges.get(id) ?? [], boxes);
      levels.set(id, level);
      boxes[id * 4 + 2] = Math.max(level.width + 2 * FRAME_PAD, labelWidth(item.label, 90));
      boxes[id * 4 + 3] = level.height + FRAME_TITLE + FRAME_PAD;
    } else if (item.kind === "op") {
      boxes[id * 4 + 2] = labelWidth(item.label, 46, 0);
      boxes[id * 4 + 3] = OP_HEIGHT;
    } else {
      boxes[id * 4 + 2] = labelWidth(item.label, item.repeats > 1 ? STACK_FIGURES : 84);
      boxes[id * 4 + 3] = BOX_HEIGHT;
    }
    const frame = item.parent;
    const siblings = frame < 0 ? scene.roots : items[frame]!.children;
    if (siblings[0] === id) evenWidths(siblings, scene, boxes);
  }
  const top = layoutLevel(scene.roots, scene.edges.get(-1) ?? [], boxes);
  place(scene.roots, top, 0, 0);
  return { boxes, edges, width: top.width, height: top.height };

  function place(ids: number[], level: Level, left: number, upper: number): void {
    ids.forEach((id, i) => {
      const x = left + level.x[i]!;
      const y = upper + level.y[i]!;
      boxes[id * 4] = x;
      boxes[id * 4 + 1] = y;
      const inner = levels.get(id);
      if (!inner) return;
      const slack = boxes[id * 4 + 2]! - inner.width;
      place(items[id]!.children, inner, x + slack / 2, y + FRAME_TITLE);
    });
    for (const edge of level.edges) {
      const points = edge.points.map((p, i) => p + (i % 2 === 0 ? left : upper));
      edges.push({ from: ids[edge.from]!, to: ids[edge.to]!, points });
    }
  }
}

const labelWidth = (label: string, extra: number, least = MODULE_WIDTH): number =>
  Math.min(280, Math.max(least, 7.4 * label.length + extra));

/** Closed modules and stacks in one frame share a width: a column of them reads as a column. */
function evenWidths(ids: number[], scene: Scene, boxes: Float64Array): void {
  const same = ids.filter((id) => scene.items[id]!.expandable && !scene.items[id]!.expanded);
  const width = Math.max(0, ...same.slice(0, 2000).map((id) => boxes[id * 4 + 2]!));
  for (const id of same) boxes[id * 4 + 2] = width;
}

function layoutLevel(ids: number[], edges: number[], boxes: Float64Array): Level {
  const position = new Map(ids.map((id, i) => [id, i]));
  const local = edges.map((id) => position.get(id)!);
  const width = ids.map((id) => boxes[id * 4 + 2]!);
  const height = ids.map((id) => boxes[id * 4 + 3]!);
  if (ids.length > DAGRE_LIMIT) return ranked(width, height, local);
  const key = `${width.join()}|${height.join()}|${local.join()}`;
  const known = cache.get(key);
  if (known) return known;
  const level = layered(width, height, local);
  if (cache.size >= CACHE_LIMIT) cache.clear();
  cache.set(key, level);
  return level;
}

function layered(width: number[], height: number[], edges: number[]): Level {
  const graph = new Graph();
  graph.setGraph({ rankdir: "TB", nodesep: NODE_GAP, ranksep: RANK_GAP, edgesep: 8 });
  graph.setDefaultEdgeLabel(() => ({}));
  width.forEach((w, i) => {
    graph.setNode(String(i), { width: w, height: height[i]! });
  });
  for (let e = 0; e < edges.length; e += 2) graph.setEdge(String(edges[e]), String(edges[e + 1]));
  dagreLayout(graph);
  const x = width.map((w, i) => graph.node(String(i)).x - w / 2);
  const y = height.map((h, i) => graph.node(String(i)).y - h / 2);
  const routed = graph.edges().map((e) => ({
    from: Number(e.v),
    to: Number(e.w),
    points: (graph.edge(e).points ?? []).flatMap((p: { x: number; y: number }) => [p.x, p.y]),
  }));
  return normalised(x, y, width, height, routed);
}

/** Longest-path ranks, execution order within a rank, straight edges: linear time for very wide frames. */
function ranked(width: number[], height: number[], edges: number[]): Level {
  const rank = new Int32Array(width.length);
  // Ops arrive in execution order, so producers are final before their consumers; a few passes settle modules.
  for (let pass = 0; pass < 4; pass++)
    for (let e = 0; e < edges.length; e += 2)
      if (edges[e]! < edges[e + 1]!)
        rank[edges[e + 1]!] = Math.max(rank[edges[e + 1]!]!, rank[edges[e]!]! + 1);
  const rows: number[][] = [];
  rank.forEach((r, i) => {
    const row = rows[r];
    if (row) row.push(i);
    else rows[r] = [i];
  });
  const x = new Array<number>(width.length).fill(0);
  const y = new Array<number>(width.length).fill(0);
  let top = 0;
  for (const row of rows) {
    if (!row) continue;
    const total = row.reduce((sum, i) => sum + width[i]! + NODE_GAP, -NODE_GAP);
    let left = -total / 2;
    for (const i of row) {
      x[i] = left;
      y[i] = top;
      left += width[i]! + NODE_GAP;
    }
    top += row.reduce((tallest, i) => Math.max(tallest, height[i]!), 0) + RANK_GAP;
  }
  const routed: Level["edges"] = [];
  for (let e = 0; e < edges.length; e += 2) {
    const [a, b] = [edges[e]!, edges[e + 1]!];
    const points = [x[a]! + width[a]! / 2, y[a]! + height[a]!, x[b]! + width[b]! / 2, y[b]!];
    routed.push({ from: a, to: b, points });
  }
  return normalised(x, y, width, height, routed);
}

function normalised(
  x: number[],
  y: number[],
  width: number[],
  height: number[],
  edges: Level["edges"],
): Level {
  let [left, top, right, bottom] = [0, 0, 0, 0];
  if (x.length > 0) {
    left = top = Number.POSITIVE_INFINITY;
    right = bottom = Number.NEGATIVE_INFINITY;
  }
  for (let i = 0; i < x.length; i++) {
    left = Math.min(left, x[i]!);
    top = Math.min(top, y[i]!);
    right = Math.max(right, x[i]! + width[i]!);
    bottom = Math.max(bottom, y[i]! + height[i]!);
  }
  for (const edge of edges)
    for (let p = 0; p < edge.points.length; p += 2) {
      left = Math.min(left, edge.points[p]! - 4);
      right = Math.max(right, edge.points[p]! + 4);
    }
  return {
    x: x.map((v) => v - left),
    y: y.map((v) => v - top),
    width: right - left,
    height: bottom - top,
    edges: edges.map((e) => ({ ...e, points: e.points.map((p, i) => p - (i % 2 === 0 ? left : top)) })),
  };
}
