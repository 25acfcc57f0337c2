/** Programs that look like real ones, in wire form, from 10 to 100,000 ops: encoders with realistic module trees. */

import type { Wire } from "../src/protocol";
import { treeWire } from "./tree";

interface Weight {
  name: string;
  shape: number[];
  module: number;
}

interface Op {
  name: string;
  type: string;
  module: number;
  source: string;
  output: string;
  flops: number;
  activation: number;
  weights: number[];
}

export interface SyntheticOptions {
  /** about this many ops */
  ops?: number;
  hidden?: number;
  vocabulary?: number;
  name?: string;
  device?: string;
  /** whether the errors of weights were found: noise halves with each bit */
  errors?: boolean;
  /** put before every op and module name, for names that try to be more than text */
  prefix?: string;
}

export const view = (data: ArrayBufferView): DataView => {
  // At an odd offset, as Jupyter's buffers may be.
  const bytes = new Uint8Array(data.byteLength + 3);
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 3);
  return new DataView(bytes.buffer, 3, data.byteLength);
};

const OPS_PER_LAYER = 22;
const TOKENS = 128;

export interface Synthetic {
  program: Wire;
  costs: Wire;
  plan: Wire;
  weights: number;
  ops: number;
}

export function synthetic(options: SyntheticOptions = {}): Synthetic {
  const { hidden = 384, vocabulary = 30522, prefix = "" } = options;
  const layers = Math.max(0, Math.round(((options.ops ?? 138) - 6) / OPS_PER_LAYER));
  const ops: Op[] = [];
  const edges: number[] = [];
  const weights: Weight[] = [];
  const paths: string[] = [];
  const classes: string[] = [];
  const parents: number[] = [];

  const module = (path: string, className: string, parent: number): number => {
    paths.push(path === "" ? "" : prefix + path);
    classes.push(className);
    parents.push(parent);
    return paths.length - 1;
  };
  const weight = (name: string, shape: number[], at: number): number =>
    weights.push({ name: prefix + name, shape, module: at }) - 1;
  const op = (
    type: string,
    at: number,
    inputs: number[],
    extra: Partial<Op> & { width?: number } = {},
  ): number => {
    const id = ops.length;
    const width = extra.width ?? hidden;
    const scope = paths[at]!.replaceAll(".", "_");
    ops.push({
      name: extra.name ?? `${scope}_${type}_${id}`,
      type,
      module: at,
      source: extra.source ?? `modeling_bert.py:${200 + (id % 180)}`,
      output: `1×${TOKENS}×${width}`,
      flops: extra.flops ?? TOKENS * width,
      activation: 4 * TOKENS * width,
      weights: extra.weights ?? [],
    });
    for (const input of inputs) edges.push(input, id);
    return id;
  };
  const linear = (path: string, parent: number, input: number, from: number, to: number): number => {
    const at = module(path, "Linear", parent);
    const name = path.replaceAll(".", "_");
    const w = [weight(`${name}_weight`, [to, from], at), weight(`${name}_bias`, [to], at)];
    return op("linear", at, [input], {
      weights: w,
      flops: 2 * TOKENS * from * to,
      width: to,
      name: prefix + name,
    });
  };
  const norm = (path: string, parent: number, input: number): number => {
    const at = module(path, "LayerNorm", parent);
    const name = path.replaceAll(".", "_");
    const w = [weight(`${name}_gamma`, [hidden], at), weight(`${name}_beta`, [hidden], at)];
    return op("layer_norm", at, [input], { weights: w, name: prefix + name });
  };

  const root = module("", "SentenceEncoder", -1);
  const emb = module("embeddings", "BertEmbeddings", root);
  const wordAt = module("embeddings.word_embeddings", "Embedding", emb);
  const word = op("gather", wordAt, [], {
    weights: [weight("embeddings_word_embeddings_weight", [vocabulary, hidden], wordAt)],
    name: `${prefix}embeddings_word_embeddings`,
  });
  const posAt = module("embeddings.position_embeddings", "Embedding", emb);
  const pos = op("gather", posAt, [], {
    weights: [weight("embeddings_position_embeddings_weight", [512, hidden], posAt)],
    name: `${prefix}embeddings_position_embeddings`,
  });
  let x = norm("embeddings.LayerNorm", emb, op("add", emb, [word, pos]));
  const encoder = module("encoder", "BertEncoder", root);
  const list = module("encoder.layer", "ModuleList", encoder);
  for (let l = 0; l < layers; l++) {
    const p = `encoder.layer.${l}`;
    const layer = module(p, "BertLayer", list);
    const attention = module(`${p}.attention`, "BertAttention", layer);
    const self = module(`${p}.attention.self`, "BertSelfAttention", attention);
    const heads = ["query", "key", "value"].map((n) => {
      const y = linear(`${p}.attention.self.${n}`, self, x, hidden, hidden);
      return op("transpose", self, [op("reshape", self, [y])]);
    });
    const scores = op("mul", self, [
      op("matmul", self, [heads[0]!, heads[1]!], { flops: 2 * TOKENS * TOKENS * hidden }),
    ]);
    const context = op("matmul", self, [op("softmax", self, [scores]), heads[2]!], {
      flops: 2 * TOKENS * TOKENS * hidden,
    });
    const joined = op("reshape", self, [op("transpose", self, [context])]);
    const out = module(`${p}.attention.output`, "BertSelfOutput", attention);
    const dense = linear(`${p}.attention.output.dense`, out, joined, hidden, hidden);
    const attended = norm(`${p}.attention.output.LayerNorm`, out, op("add", out, [dense, x]));
    const middle = module(`${p}.intermediate`, "BertIntermediate", layer);
    const up = op("gelu", middle, [linear(`${p}.intermediate.dense`, middle, attended, hidden, 4 * hidden)], {
      width: 4 * hidden,
    });
    const output = module(`${p}.output`, "BertOutput", layer);
    const down = linear(`${p}.output.dense`, output, up, 4 * hidden, hidden);
    x = norm(`${p}.output.LayerNorm`, output, op("add", output, [down, attended]));
  }
  const pool = module("pool", "MeanPooling", root);
  op("l2_norm", pool, [op("reduce_mean", pool, [x])]);

  return {
    program: programWire(options.name ?? "all-MiniLM-L6-v2", ops, edges, paths, classes, parents, weights),
    costs: costsWire(options.device ?? "iPhone 15 Pro", ops, weights, options.errors ?? false),
    plan: {
      revision: 0,
      scheme: view(new Uint16Array(weights.length)),
      int8: view(new Uint8Array(ops.length)),
      cursor: 0,
      history: [],
      acknowledged: {},
    },
    weights: weights.length,
    ops: ops.length,
  };
}

const elementsOf = (w: Weight): number => w.shape.reduce((a, b) => a * b, 1);

function programWire(
  name: string,
  ops: Op[],
  edges: number[],
  paths: string[],
  classes: string[],
  parents: number[],
  weights: Weight[],
): Wire {
  const [built, tree] = treeWire(
    parents,
    ops.map((o) => o.module),
    ops.map((o) => `${o.type} ${o.output} ${o.weights.map((w) => weights[w]!.shape.join("×"))}`),
  );
  return {
    name,
    deployment_target: "iOS18",
    from_torch: true,
    compute_units: COMPUTE_UNITS,
    budget_units: {
      size: { KB: 1e3, MB: 1e6 },
      bits: { bits: 1 },
      latency: { ms: 1, µs: 1e-3 },
      energy: { mJ: 1 },
    },
    export_endings: { python: ".py", coremltools: ".yaml", plan: ".yaml", package: ".mlpackage" },
    columns: [
      {
        key: "name",
        title: "name",
        unit: "",
        description: "Name of the MIL operation.",
        certainty: "text",
        numeric: false,
      },
      {
        key: "weight_bytes",
        title: "size",
        unit: "bytes",
        description: "Bytes of the weights this op reads.",
        certainty: "exact",
        numeric: true,
      },
      {
        key: "latency_ms",
        title: "latency",
        unit: "ms",
        description: "Launch overhead plus the larger of compute and memory time.",
        certainty: "estimated",
        numeric: true,
      },
    ],
    ops: {
      name: ops.map((o) => o.name),
      op_type: ops.map((o) => o.type),
      module: view(Int32Array.from(ops, (o) => o.module)),
      source: ops.map((o) => o.source),
      output: ops.map((o) => o.output),
      flops: view(Float64Array.from(ops, (o) => o.flops)),
      activation_bytes: view(Float64Array.from(ops, (o) => o.activation)),
      int8_refusal: ops.map((o) => (/^(linear|add)$/.test(o.type) ? "" : `It is a ${o.type}.`)),
    },
    edges: view(Int32Array.from(edges)),
    modules: { path: paths, class_name: classes, parent: view(Int32Array.from(parents)), ...built },
    tree,
    weights: {
      name: weights.map((w) => w.name),
      shape: weights.map((w) => w.shape.join("×")),
      elements: view(Float64Array.from(weights, elementsOf)),
      module: view(Int32Array.from(weights, (w) => w.module)),
    },
  };
}

const COMPUTE_UNITS = [
  { key: "all", title: "all units" },
  { key: "cpuAndNeuralEngine", title: "Neural Engine" },
  { key: "cpuAndGPU", title: "GPU" },
  { key: "cpuOnly", title: "CPU only" },
];

const FAMILIES = [
  { key: "float16", label: "float16", bits: [16] },
  { key: "palettize", label: "palettize", bits: [8, 6, 4, 3, 2, 1] },
  { key: "palettize_g16", label: "palettize, groups of 16", bits: [8, 6, 4, 3, 2, 1] },
  { key: "linear", label: "linear", bits: [8, 4] },
];

const REASONS = [
  "fewer than 2048 elements: coremltools leaves it as it is",
  "groups of 16 do not divide the channels",
];

/** Measured as loaded: half a millisecond of the first op on the GPU, a quarter of the third, nothing of the rest. */
export function measuredWire(made: Synthetic): Wire {
  const times = new Float64Array(made.ops).fill(Number.NaN);
  const units = new Uint8Array(made.ops).fill(255);
  times[0] = 0.5;
  times[2] = 0.25;
  units[0] = 1;
  return {
    machine: "this Mac",
    device: "iPhone 15 Pro",
    compute_unit: "all",
    latency_ms: 2.5,
    scheme: view(new Uint16Array(made.weights)),
    op_ms: view(times),
    unit: view(units),
  };
}

function errorsWire(weights: Weight[], schemes: { key: string; nbits: number }[]): Wire {
  const noise = weights.flatMap((w) =>
    schemes.map(({ nbits }) => (nbits === 16 ? 0 : elementsOf(w) * 4 ** -nbits)),
  );
  return {
    signal: view(Float64Array.from(weights, elementsOf)),
    squared_error: view(Float32Array.from(noise)),
    exact_error: view(Uint8Array.from(schemes, ({ key }) => (key.startsWith("palettize") ? 0 : 1))),
  };
}

function costsWire(device: string, ops: Op[], weights: Weight[], errors: boolean): Wire {
  const schemes = FAMILIES.flatMap((f) =>
    f.bits.map((nbits) => ({
      key: `${f.key}-${nbits}`,
      label: f.key === "float16" ? "float16" : `${f.label} ${nbits} bits`,
      family: f.key,
      family_label: f.label,
      nbits,
    })),
  );
  const S = schemes.length;
  const at = (): Float64Array => new Float64Array(weights.length * S);
  const [payload, file, proto, stream] = [at(), at(), at(), at()];
  const legal = new Uint8Array(weights.length * S);
  const reason = new Int16Array(weights.length * S).fill(-1);
  const bandwidth = device.includes("15") ? 3.4e7 : 2.1e7;
  weights.forEach((w, i) => {
    const n = elementsOf(w);
    schemes.forEach((s, j) => {
      const k = i * S + j;
      const small = n < 2048;
      const odd = s.family === "palettize_g16" && w.shape[0]! % 16 !== 0;
      if (j > 0 && (small || odd)) {
        reason[k] = small ? 0 : 1;
        return;
      }
      legal[k] = 1;
      const groups = s.family === "palettize_g16" ? w.shape[0]! / 16 : 1;
      const tables = s.family.startsWith("palettize")
        ? groups * 2 ** s.nbits * 2
        : s.family === "linear"
          ? w.shape[0]! * 3
          : 0;
      payload[k] = (n * s.nbits) / 8 + tables;
      file[k] = 64 * Math.ceil((payload[k]! + 64) / 64);
      proto[k] = 180 + 20 * j;
      stream[k] = payload[k]! / bandwidth;
    });
  });
  const start = new Int32Array(ops.length + 1);
  const read: number[] = [];
  ops.forEach((o, i) => {
    read.push(...o.weights);
    start[i + 1] = read.length;
  });
  return {
    device,
    compute_unit: "all",
    offered_units: ["all", "cpuAndNeuralEngine", "cpuOnly"],
    schemes,
    families: FAMILIES.map(({ key, label }) => ({ key, label })),
    offered: view(new Uint8Array(schemes.length).fill(1)),
    start: view(new Uint16Array(weights.length)),
    legal: view(legal),
    reason: view(reason),
    reasons: REASONS,
    payload_bytes: view(payload),
    file_bytes: view(file),
    proto_bytes: view(proto),
    stream_ms: view(stream),
    resident_bytes: view(payload),
    fixed_memory_bytes: 4_000_000,
    elements: view(Float64Array.from(weights, elementsOf)),
    ...(errors ? errorsWire(weights, schemes) : {}),
    fixed_file_bytes: 64,
    fixed_proto_bytes: 21000,
    dispatch_ms: 0.12,
    launch_ms: view(new Float64Array(ops.length).fill(0.0012)),
    compute_ms: view(Float64Array.from(ops, (o) => o.flops / 1.1e10)),
    activation_ms: view(Float64Array.from(ops, (o) => o.activation / 6e8)),
    products_ms: view(Float64Array.from(ops, (o) => o.flops / 1.1e10)),
    traffic_ms: view(Float64Array.from(ops, (o) => o.activation / 6e8)),
    units: ["Neural Engine", "GPU", "CPU"],
    unit: view(new Uint8Array(ops.length)),
    unit_reasons: [],
    unit_reason: view(new Int16Array(ops.length).fill(-1)),
    int8_ops: view(new Int32Array(0)),
    int8_ms: view(new Float64Array(0)),
    int8_schemes: view(new Uint8Array(schemes.length)),
    work_mj: view(Float64Array.from(ops, (o) => o.flops * 4e-10)),
    byte_mj: view(new Float64Array(ops.length).fill(3e-8)),
    active_w: view(new Float64Array(ops.length).fill(0.9)),
    dispatch_mj: 0.1,
    energy_factor: 2.5,
    start_ms: 1,
    spread: 0,
    large_change: 0.2,
    rounding: 1e-9,
    op_weights_start: view(start),
    op_weights: view(Int32Array.from(read)),
    shared: view(new Int32Array(4 * payload.length).fill(-1)),
    last_weight: -1,
    tensors: view(new Uint8Array(payload.length).fill(1)),
    build_info_bytes: 0,
    enclosing_bytes: view(new Int32Array(0)),
    shared_file_bytes: view(new Float64Array(0)),
    op_weights_share: view(new Float64Array(read.length).fill(1)),
    interval: [0.72, 1.38],
  };
}
