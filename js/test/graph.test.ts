import { describe, expect, test } from "vitest";
import { buildScene, buildTree, openingModules, opsInside } from "../src/graph/collapse";
import { hitTest, TOGGLE } from "../src/graph/hit";
import { layoutScene } from "../src/graph/layout";
import { decodeProgram, type Program } from "../src/protocol";
import { synthetic, view } from "./synthetic";

const program = decodeProgram(synthetic({ ops: 138 }).program);
const tree = buildTree(program);
const moduleAt = (path: string): number => program.modules.path.indexOf(path);

function tiny(modules: [path: string, parent: number][], ops: number[], edges: number[] = []): Program {
  return decodeProgram({
    name: "tiny",
    ops: {
      name: ops.map((_, i) => `op${i}`),
      op_type: ops.map(() => "add"),
      module: view(Int32Array.from(ops)),
      source: ops.map(() => ""),
      output: ops.map(() => ""),
      flops: [],
      activation_bytes: [],
    },
    edges: view(Int32Array.from(edges)),
    modules: {
      path: modules.map(([p]) => p),
      class_name: modules.map(() => "Module"),
      parent: view(Int32Array.from(modules, ([, p]) => p)),
    },
    weights: { name: [], shape: [], elements: [], module: [] },
  });
}

describe("opening view", () => {
  test("a transformer opens at its layers, every op inside exactly one box", () => {
    const scene = buildScene(program, tree, openingModules(tree));
    const labels = scene.items.map((item) => item.label);
    expect(labels).toEqual(["embeddings", "encoder.layer", "0", "1", "2", "3", "4", "5", "pool"]);
    expect(scene.items.every((item) => item.kind === "module")).toBe(true);
    expect(Array.from(scene.itemOfOp).every((id) => id >= 0 && !scene.items[id]!.expanded)).toBe(true);
  });

  test("a hundred thousand ops still open as a picture", () => {
    const big = decodeProgram(synthetic({ ops: 100_000, hidden: 64, vocabulary: 100 }).program);
    const scene = buildScene(big, buildTree(big), openingModules(buildTree(big)));
    expect(scene.items.length).toBeLessThan(60);
  });

  test("a root with one child that holds everything is opened through it", () => {
    const p = tiny(
      [
        ["", -1],
        ["model", 0],
        ["model.a", 1],
        ["model.b", 1],
        ["model.c", 1],
      ],
      [2, 2, 3, 4],
    );
    const t = buildTree(p);
    expect(buildScene(p, t, openingModules(t)).items.map((i) => i.label)).toEqual([
      "model.a",
      "model.b",
      "model.c",
    ]);
  });

  test("loose ops beside it do not keep the module that holds most of the model closed", () => {
    const p = tiny(
      [
        ["", -1],
        ["embed", 0],
        ["layers", 0],
        ["layers.0", 2],
        ["layers.1", 2],
      ],
      [0, 0, 0, 0, 1, 3, 3, 3, 4, 4, 4],
    );
    const t = buildTree(p);
    const modules = buildScene(p, t, openingModules(t)).items.filter((i) => i.kind === "module");
    expect(modules.map((i) => i.label)).toEqual(["embed", "layers", "0", "1"]);
  });

  test("a program without modules shows its ops", () => {
    const p = tiny([["", -1]], [0, 0, 0], [0, 1, 1, 2]);
    const t = buildTree(p);
    const scene = buildScene(p, t, openingModules(t));
    expect(scene.items.map((i) => i.kind)).toEqual(["op", "op", "op"]);
    expect(scene.edges.get(-1)).toEqual([0, 1, 1, 2]);
  });
});

describe("collapse", () => {
  test("an edge appears once, between siblings of the innermost frame that holds both ends", () => {
    // a = {0, 1}, b = {2, 3}; two op edges from a to b are one edge of the picture.
    const p = tiny(
      [
        ["", -1],
        ["a", 0],
        ["b", 0],
      ],
      [1, 1, 2, 2],
      [0, 1, 0, 2, 1, 3, 2, 3],
    );
    const t = buildTree(p);
    const closed = buildScene(p, t, new Set());
    expect([...closed.edges]).toEqual([[-1, [0, 1]]]);
    const open = buildScene(p, t, new Set([1]));
    const a = open.items.find((i) => i.label === "a")!;
    expect(open.edges.get(-1)).toEqual([a.id, open.items.find((i) => i.label === "b")!.id]);
    expect(open.edges.get(a.id)).toEqual(a.children);
  });

  test("expanding shows what is inside; ops inside are those of the subtree", () => {
    const layer = moduleAt("encoder.layer.2");
    const opened = buildScene(program, tree, new Set([...openingModules(tree), layer]));
    const frame = opened.items.find((i) => i.kind === "module" && i.index === layer)!;
    expect(frame.expanded).toBe(true);
    expect(frame.children.map((id) => opened.items[id]!.label)).toEqual([
      "attention",
      "intermediate",
      "output",
    ]);
    const inside = opsInside(tree, layer);
    expect(inside.length).toBe(tree.opCount[layer]);
    expect(inside.every((op) => program.ops.name[op]!.includes("layer_2"))).toBe(true);
  });
});

describe("layout", () => {
  const scene = buildScene(
    program,
    tree,
    new Set([...openingModules(tree), moduleAt("encoder.layer.2"), moduleAt("encoder.layer.2.attention")]),
  );
  const layout = layoutScene(scene);
  const box = (id: number): number[] => Array.from(layout.boxes.subarray(id * 4, id * 4 + 4));

  test("siblings do not overlap and children lie inside their frame", () => {
    const groups = [scene.roots, ...scene.items.filter((i) => i.expanded).map((i) => i.children)];
    for (const ids of groups)
      for (const a of ids)
        for (const b of ids) {
          if (a >= b) continue;
          const [ax, ay, aw, ah] = box(a) as [number, number, number, number];
          const [bx, by, bw, bh] = box(b) as [number, number, number, number];
          expect(ax + aw <= bx || bx + bw <= ax || ay + ah <= by || by + bh <= ay).toBe(true);
        }
    for (const item of scene.items) {
      if (item.parent < 0) continue;
      const [x, y, w, h] = box(item.id) as [number, number, number, number];
      const [px, py, pw, ph] = box(item.parent) as [number, number, number, number];
      expect(x >= px && y >= py && x + w <= px + pw + 1e-9 && y + h <= py + ph + 1e-9).toBe(true);
    }
  });

  test("data flows downwards", () => {
    for (const edge of layout.edges) expect(box(edge.from)[1]!).toBeLessThan(box(edge.to)[1]!);
  });

  test("a flat program of 10,000 ops is laid out in good time", () => {
    const n = 10_000;
    const p = tiny(
      [["", -1]],
      new Array<number>(n).fill(0),
      Array.from({ length: 2 * n - 2 }, (_, i) => (i + 1) >> 1),
    );
    const started = performance.now();
    const flat = layoutScene(buildScene(p, buildTree(p), new Set()));
    expect(performance.now() - started).toBeLessThan(2000);
    expect(flat.boxes[4 * (n - 1) + 1]!).toBeGreaterThan(flat.boxes[1]!);
  });

  test("a hit is the innermost box; its corner is the toggle; nothing is nothing", () => {
    for (const item of scene.items) {
      const [x, y, w] = box(item.id) as [number, number, number, number];
      const corner = hitTest(scene, layout, x + TOGGLE / 2, y + 10)!;
      expect(corner.item.id).toBe(item.id);
      expect(corner.toggle).toBe(item.expandable);
      const right = hitTest(scene, layout, x + w - 3, y + 5)!;
      expect(right.item.id).toBe(item.id);
      expect(right.toggle).toBe(false);
    }
    expect(hitTest(scene, layout, -50, -50)).toBeNull();
  });
});
