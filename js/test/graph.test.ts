import { describe, expect, test } from "vitest";
import { buildScene, buildTree, keyOf, openingModules, opsInside } from "../src/graph/collapse";
import { hitTest, TOGGLE } from "../src/graph/hit";
import { layoutScene } from "../src/graph/layout";
import { freeCorner } from "../src/graph/minimap";
import type { Box } from "../src/graph/viewport";
import { decodeProgram, type Program } from "../src/protocol";
import { synthetic, view } from "./synthetic";
import { treeWire } from "./tree";

const program = decodeProgram(synthetic({ ops: 138 }).program);
const tree = buildTree(program);
const moduleAt = (path: string): number => program.modules.path.indexOf(path);

/** Modules of equal ops are built alike. */
function tiny(modules: [path: string, parent: number][], ops: number[], edges: number[] = []): Program {
  const [built, placed] = treeWire(
    modules.map(([, p]) => p),
    ops,
    ops.map(() => "add"),
  );
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
      ...built,
    },
    tree: placed,
    weights: { name: [], shape: [], elements: [], module: [] },
  });
}

describe("opening view", () => {
  test("a transformer opens with its layers as one stack, every op inside exactly one box", () => {
    const scene = buildScene(program, tree, openingModules(tree));
    const labels = scene.items.map((item) => item.label);
    expect(labels).toEqual(["embeddings", "encoder.layer", "pool"]);
    expect(scene.items.map((item) => item.repeats)).toEqual([1, 6, 1]);
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

describe("stacks", () => {
  // stem, three equal blocks, an unequal one; then two equal ones more, all in one chain
  const modules: [string, number][] = [
    ["", -1],
    ["stem", 0],
    ...[0, 1, 2, 3, 4, 5].map((i): [string, number] => [`blocks.${i}`, 0]),
  ];
  const ops = [1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 6, 7, 7];
  const chain = ops.slice(1).flatMap((_, i) => [i, i + 1]);
  const labels = (p: Program, open: number[] = []): string[] => {
    const t = buildTree(p);
    return buildScene(p, t, new Set(open)).items.map(
      (i) => `${i.label}${i.repeats > 1 ? ` × ${i.repeats}` : ""}`,
    );
  };

  test("equal modules that follow each other are one box; what differs ends the run", () => {
    expect(labels(tiny(modules, ops, chain))).toEqual([
      "stem",
      "blocks.0 – 2 × 3",
      "blocks.3",
      "blocks.4 – 5 × 2",
    ]);
  });

  test("a stack opens into its modules and stands for all of their ops while closed", () => {
    const p = tiny(modules, ops, chain);
    const t = buildTree(p);
    const closed = buildScene(p, t, new Set());
    const stack = closed.items[1]!;
    expect(Array.from(closed.itemOfOp).flatMap((id, op) => (id === stack.id ? [op] : []))).toEqual([
      3, 4, 5, 6, 7, 8,
    ]);
    const opened = buildScene(p, t, new Set([keyOf(stack)]));
    const frame = opened.items[1]!;
    expect(frame.expanded).toBe(true);
    expect(frame.children.map((id) => opened.items[id]!.label)).toEqual(["blocks.0", "blocks.1", "blocks.2"]);
    expect(opened.edges.get(frame.id)).toEqual([2, 3, 3, 4]);
    // Its first module has the same index and a key of its own.
    const inner = buildScene(p, t, new Set([keyOf(stack), keyOf(opened.items[2]!)]));
    expect(inner.items.filter((i) => i.expanded).map((i) => i.kind)).toEqual(["stack", "module"]);
  });

  test("equal branches of one input are no stack, nor modules with an op between them", () => {
    const branches: [string, number][] = [
      ["", -1],
      ["q", 0],
      ["k", 0],
      ["v", 0],
    ];
    expect(labels(tiny(branches, [0, 1, 2, 3, 0], [0, 1, 0, 2, 0, 3, 1, 4, 2, 4, 3, 4]))).toEqual([
      "add",
      "q",
      "k",
      "v",
      "add",
    ]);
    const blocks: [string, number][] = [
      ["", -1],
      ["a", 0],
      ["b", 0],
    ];
    expect(labels(tiny(blocks, [1, 0, 2], [0, 1, 1, 2, 0, 2]))).toEqual(["a", "add", "b"]);
  });

  test("a module that is nothing but equal modules is the stack itself", () => {
    const p = tiny(
      [
        ["", -1],
        ["head", 0],
        ["layers", 0],
        ["layers.0", 2],
        ["layers.1", 2],
      ],
      [1, 3, 4],
      [0, 1, 1, 2],
    );
    expect(labels(p)).toEqual(["head", "layers × 2"]);
    expect(labels(p, [2])).toEqual(["head", "layers × 2", "0", "1"]);
  });
});

describe("collapse", () => {
  test("an edge appears once, between siblings of the innermost frame that holds both ends", () => {
    // a = {0, 1}, b = {2, 3, 4}; two op edges from a to b are one edge of the picture.
    const p = tiny(
      [
        ["", -1],
        ["a", 0],
        ["b", 0],
      ],
      [1, 1, 2, 2, 2],
      [0, 1, 0, 2, 1, 3, 2, 3, 3, 4],
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
    const opened = buildScene(
      program,
      tree,
      new Set([...openingModules(tree), moduleAt("encoder.layer"), layer]),
    );
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
    new Set([
      ...openingModules(tree),
      moduleAt("encoder.layer"),
      moduleAt("encoder.layer.2"),
      moduleAt("encoder.layer.2.attention"),
    ]),
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

  test("a module of 500 ops is laid out in good time", () => {
    const n = 500;
    const p = tiny(
      [
        ["", -1],
        ["wide", 0],
      ],
      Array.from({ length: n + 2 }, (_, op) => (op < 2 ? 0 : 1)),
      Array.from({ length: n }, (_, i) => [i, i + 2, Math.max(0, i - 3), i + 2]).flat(),
    );
    const t = buildTree(p);
    const started = performance.now();
    const opened = layoutScene(buildScene(p, t, new Set([1])));
    expect(performance.now() - started).toBeLessThan(500);
    expect(opened.boxes.length).toBe(4 * (n + 3));
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

test("the map stands in the corner where it hides less, and rather on an op than on a module", () => {
  const scene = buildScene(program, tree, openingModules(tree));
  const layout = layoutScene(scene);
  const boxOf = (id: number): Box => {
    const [x, y, width, height] = layout.boxes.subarray(id * 4) as unknown as [
      number,
      number,
      number,
      number,
    ];
    return { x, y, width, height };
  };
  const nowhere = { x: -500, y: 0, width: 100, height: 20 };
  const module = boxOf(scene.items.find(({ expandable, expanded }) => expandable && !expanded)!.id);
  expect(freeCorner(scene, layout, module, nowhere)).toBe("right");
  expect(freeCorner(scene, layout, nowhere, module)).toBe("left");
  const loose = tiny(
    [
      ["", -1],
      ["a", 0],
    ],
    [0, 1],
    [0, 1],
  );
  const two = buildScene(loose, buildTree(loose), new Set());
  const boxes = Float64Array.of(0, 0, 100, 20, 0, 40, 100, 20);
  const [op, other] = [0, 40].map((y) => ({ x: 0, y, width: 100, height: 20 })) as [Box, Box];
  expect(two.items.map(({ kind }) => kind)).toEqual(["op", "module"]);
  expect(freeCorner(two, { ...layout, boxes }, op, other)).toBe("left");
});

test("a stack is as wide as the modules beside it, so that its name has room", () => {
  const few = tiny(
    [
      ["", -1],
      ["a", 0],
      ["b", 0],
      ["c", 0],
    ],
    [1, 2, 2, 3, 3],
    [0, 1, 1, 2, 2, 3, 3, 4],
  );
  const scene = buildScene(few, buildTree(few), new Set());
  const { boxes } = layoutScene(scene);
  expect(scene.items.map(({ kind }) => kind)).toEqual(["module", "stack"]);
  expect(boxes[4 + 2]).toBe(boxes[2]);
  expect(boxes[4 + 3]).toBe(boxes[3]);
});
