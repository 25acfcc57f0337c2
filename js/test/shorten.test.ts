/** What stays of names where there is no room: what tells them apart. */

import { expect, test } from "vitest";
import { lastCharacters, type Parts, partsOfName, partsOfPath } from "../src/shorten";

const stays = (parts: Parts): string[] => parts.filter(([, whole]) => whole).map(([text]) => text);
const gives = (parts: Parts): string[] => parts.filter(([, whole]) => !whole).map(([text]) => text);

test.each([
  ["encoder.layer.5.attention.self.query", ["encoder.layer", "attention.self"], [".5.", ".query"]],
  ["blocks.0.intermediate.dense", ["blocks", "intermediate"], [".0.", ".dense"]],
  ["encoder.layer.5.output", ["encoder.layer"], [".5.", "output"]],
  ["model.0.layers.11.mlp.down_proj", ["model.0.layers", "mlp"], [".11.", ".down_proj"]],
  ["embeddings.word_embeddings", ["embeddings"], [".word_embeddings"]],
  ["pool", [], ["pool"]],
  // A last name that is long itself keeps its end.
  [
    "blocks.3.inside.a_name_of_no_use_but_for_its_end",
    ["blocks", "inside.a_name_of_no_use_but_f"],
    [".3.", "or_its_end"],
  ],
  ["a".repeat(10_000), ["a".repeat(9_990)], ["aaaaaaaaaa"]],
])("of %s the number of the layer and the last name stay", (path, first, last) => {
  const parts = partsOfPath(path);
  expect(parts.map(([text]) => text).join("")).toBe(path);
  expect(gives(parts)).toEqual(first);
  expect(stays(parts)).toEqual(last);
});

test("characters of two halves are not cut", () => {
  expect(lastCharacters("abc😀de", 3)).toEqual([
    ["abc😀", false],
    ["de", true],
  ]);
});

test.each([
  ["linear_11_cast_fp16", ["linear", "_cast_fp16"], ["_11"]],
  ["scaled_dot_product_attention_cast_fp16", ["scaled_dot_product", "_cast_fp16"], ["_attention"]],
  ["embedding_cast_fp16_cast_uint16_cast_uint16", ["_cast_fp16_cast_uint16_cast_uint16"], ["embedding"]],
  ["cast_48", ["cast"], ["_48"]],
  ["x", [], ["x"]],
])("of the op's name %s the number stays longest, and the casts go first", (name, first, last) => {
  const parts = partsOfName(name);
  expect(parts.map(([text]) => text).join("")).toBe(name);
  expect(parts.map(([, whole]) => whole)).toEqual([false, true, false]);
  expect(gives(parts).filter(Boolean)).toEqual(first);
  expect(stays(parts)).toEqual(last);
});
