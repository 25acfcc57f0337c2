/** What a control offers when schemes were taken off the menu. */

import { expect, test } from "vitest";
import { decodeCosts, decodeProgram } from "../src/protocol";
import { assignScheme, familiesFor, nearestScheme, stopsFor, workingFamily } from "../src/schemes";
import { synthetic, view } from "./synthetic";

const made = synthetic();
const schemes = made.costs.schemes as { key: string }[];
const scheme = (key: string): number => schemes.findIndex((s) => s.key === key);
const weight = (name: string): number => decodeProgram(made.program).weights.name.indexOf(name);
const [holder, other] = ["query", "key"].map((n) => weight(`encoder_layer_0_attention_self_${n}_weight`)) as [
  number,
  number,
];
const GONE = scheme("palettize-4");

function without(...removed: number[]): ReturnType<typeof decodeCosts> {
  const offered = new Uint8Array(schemes.length).fill(1);
  for (const s of removed) offered[s] = 0;
  return decodeCosts({ ...made.costs, offered: view(offered) });
}

const held = new Uint16Array(made.weights);
held[holder] = GONE;

test("a removed scheme is a stop for the weight that has it, and for no other", () => {
  const costs = without(GONE);
  const bits = (w: number): number[] => stopsFor(costs, [w], "palettize", held).map((s) => s.nbits);
  expect(bits(holder)).toEqual([16, 8, 6, 4, 3, 2, 1]);
  expect(bits(other)).toEqual([16, 8, 6, 3, 2, 1]);
});

test("a control for several weights leaves it where it is and gives it to no other", () => {
  const costs = without(GONE);
  const stop = stopsFor(costs, [holder, other], "palettize", held).find((s) => s.scheme === GONE);
  expect(stop?.takers).toBe(1);
  const { weights, schemes: chosen, skipped } = assignScheme(costs, [holder, other], GONE, held);
  expect(weights).toEqual([holder, other]);
  expect(chosen).toEqual([GONE, 0]);
  expect(skipped).toBe(1);
  expect(nearestScheme(costs, other, "palettize", 4, held)).toBe(scheme("palettize-3"));
});

test("a family without any scheme on the menu is shown only where it is in use", () => {
  const palettes = [8, 6, 4, 3, 2, 1].map((n) => scheme(`palettize-${n}`));
  const costs = without(...palettes);
  const keys = (w: number): string[] => familiesFor(costs, [w], held).map((f) => f.key);
  expect(keys(holder)).toContain("palettize");
  expect(keys(other)).toEqual(["float16", "palettize_g16", "linear"]);
  expect(workingFamily(costs, [other], "palettize", held)).toBe("palettize_g16");
});

test("weights without any choice are left out of an assignment, those that lost theirs are not", () => {
  const costs = decodeCosts(made.costs);
  const bias = weight("encoder_layer_0_attention_self_query_bias");
  const four = scheme("palettize-4");
  const fresh = new Uint16Array(costs.elements.length);
  expect(assignScheme(costs, [holder, bias], four, fresh)).toEqual({
    weights: [holder],
    schemes: [four],
    skipped: 0,
  });
  const none = decodeCosts({
    ...made.costs,
    offered: view(Uint8Array.from(schemes, (_, s) => (s === 0 ? 1 : 0))),
  });
  const before = fresh.slice();
  before[holder] = four;
  expect(assignScheme(none, [holder, other], 0, before)).toEqual({
    weights: [holder],
    schemes: [0],
    skipped: 0,
  });
});
