/** What Python answers to what the views ask: an op, a weight, its levels, plans for any budget. */

import type { Wire } from "../../src/protocol";
import type { FakeModel } from "../fakeModel";

/** Of an op: its tensors, and the code that made it. */
export const OP = {
  inputs: [
    {
      parameter: "x",
      name: "hidden",
      shape: "1×128×384",
      dtype: "fp16",
      bytes: 98304,
      producer: 3,
      weight: -1,
    },
    {
      parameter: "weight",
      name: "w",
      shape: "384×384",
      dtype: "fp16",
      bytes: 294912,
      producer: -1,
      weight: 2,
    },
  ],
  outputs: [
    { parameter: "", name: "out", shape: "1×128×384", dtype: "fp16", bytes: 98304, producer: 4, weight: -1 },
  ],
  fused: [],
  int8: "",
  frames: [
    {
      file: "/home/me/project/net/modeling.py",
      line: 12,
      function: "forward",
      lines: ["    def forward(self, x):", "        return self.query(x)", ""],
      first: 11,
    },
    {
      file: "/home/me/project/net/model.py",
      line: 40,
      function: "forward",
      lines: ["x = layer(x)"],
      first: 40,
    },
  ],
};

export const WEIGHT = {
  dtype: "fp16",
  parameter: "encoder.layer.0.attention.self.query.weight",
  folded_from: "",
  overhead_bytes: Array.from({ length: 15 }, (_, s) => 100 + s),
  tables: Array.from({ length: 15 }, () => 1),
  counts: [1, 0, 20, 40, 20, 1],
  min: -0.5,
  max: 1,
  mean: 0.01,
  std: 0.1,
  zeros: 0,
  not_finite: 0,
};

export const levels = (count: number): Wire => ({
  values: Array.from({ length: count }, (_, i) => -0.5 + (1.5 * i) / count),
  kind: "palette",
  group: 0,
  groups: 1,
  place: "",
  zeros: null,
});

const weightCount = (model: FakeModel): number =>
  (model.get("program") as { weights: { name: string[] } }).weights.name.length;

/** Each compressible weight from 2 bits (column 5) over 4 (3) to float16 (0), one bit a weight in all for each step. */
export function offer(model: FakeModel): object {
  const weights = weightCount(model);
  const legal = new Uint8Array((model.get("costs") as { legal: DataView }).legal.buffer.slice(3));
  const schemes = legal.length / weights;
  const free = [...Array(weights).keys()].filter((w) => legal[w * schemes + 5] === 1);
  const group = new Array<number>(weights).fill(-1);
  free.forEach((w, g) => {
    group[w] = g;
  });
  const steps = [3, 0].flatMap((column) => free.map((_, g) => ({ g, column })));
  return {
    steps: {
      scheme: group.map((g) => (g < 0 ? 0 : 5)),
      least: 2,
      most: 16,
      group,
      step_group: steps.map((s) => s.g),
      step_column: steps.map((s) => s.column),
      step_cost: steps.map((s) => (s.column === 3 ? 2 : 12) / free.length),
    },
    grade: "weight",
    what: "noise to signal",
    warning: "It knows nothing about the model's output.",
    presets: [{ name: "AFM", says: "As Apple does it.", source: "https://example.org" }],
  };
}
