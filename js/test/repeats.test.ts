import { expect, test } from "vitest";
import { decodeProgram } from "../src/protocol";
import { alikeModules, repeatsOf } from "../src/repeats";
import { synthetic } from "./synthetic";

const program = decodeProgram(synthetic({ ops: 138 }).program);
const op = (name: string): number => program.ops.name.indexOf(name);
const names = (ops: readonly number[]): string[] => ops.map((o) => program.ops.name[o]!).sort();

test("layers are built alike, and so are projections of one size wherever they are", () => {
  const of = (path: string): string[] => {
    const m = program.modules.path.indexOf(path);
    return alikeModules(program)
      .get(program.modules.alike[m]!)!
      .map((twin) => program.modules.path[twin]!);
  };
  expect(of("encoder.layer.2")).toEqual([0, 1, 2, 3, 4, 5].map((l) => `encoder.layer.${l}`));
  expect(of("encoder.layer.0.attention.self.key")).toHaveLength(24);
  expect(of("embeddings")).toEqual(["embeddings"]);
});

test("one op of a layer stands for the same op of all layers, not for others of its size", () => {
  const found = repeatsOf(program, [op("encoder_layer_3_attention_self_query")])!;
  expect(found.count).toBe(6);
  expect(names(found.ops)).toEqual([0, 1, 2, 3, 4, 5].map((l) => `encoder_layer_${l}_attention_self_query`));
});

test("ops outside of repeated modules stay as they are", () => {
  const words = op("embeddings_word_embeddings");
  expect(repeatsOf(program, [words])).toBeNull();
  const both = repeatsOf(program, [words, op("encoder_layer_0_output_dense")])!;
  expect(both.ops).toHaveLength(7);
  expect(both.ops).toContain(words);
  expect(both.outside).toBe(1);
});

test("all ops of a deep model stand for themselves, found in a time that grows with them", () => {
  const deep = decodeProgram(synthetic({ ops: 40_000, hidden: 64, vocabulary: 100 }).program);
  const all = Array.from({ length: deep.ops.count }, (_, i) => i);
  const started = performance.now();
  const found = repeatsOf(deep, all)!;
  expect(performance.now() - started).toBeLessThan(1000);
  expect(found.ops.length).toBe(deep.ops.count);
  expect(found.count).toBeGreaterThan(1000);
});
