/** Fold rules, on the fixture that Python writes and both sides read. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { applyEdit, type EditStep, fold, HISTORY_LIMIT, type HistoryState } from "../src/history";
import { decodeEntry, type Wire } from "../src/protocol";

interface Case {
  name: string;
  scheme: number[];
  int8: number[];
  steps: EditStep[];
  expected: { scheme: number[]; int8: number[]; cursor: number; history: Wire[] };
}

const file = new URL("../../tests/fixtures/history.json", import.meta.url);
const { cases } = JSON.parse(readFileSync(file, "utf8")) as { cases: Case[] };

const start = (scheme: number[], int8: number[] = []): HistoryState => ({
  scheme: Uint16Array.from(scheme),
  int8: Uint8Array.from(int8),
  entries: [],
  cursor: 0,
});

test("the fixture has steps", () => {
  expect(cases.flatMap((c) => c.steps).length).toBeGreaterThan(10);
});

test.each(cases)("$name", ({ scheme, int8, steps, expected }) => {
  const state = fold(start(scheme, int8), steps);
  expect(Array.from(state.scheme)).toEqual(expected.scheme);
  expect(Array.from(state.int8)).toEqual(expected.int8);
  expect(state.cursor).toBe(expected.cursor);
  expect(state.entries).toEqual(expected.history.map(decodeEntry));
});

describe("rules", () => {
  const set = (weights: number[], schemes: number[], gesture = ""): EditStep => ({
    kind: "set",
    weights,
    schemes,
    gesture,
  });

  test("states are values", () => {
    const before = start([0, 0]);
    applyEdit(before, set([0], [3]));
    expect(Array.from(before.scheme)).toEqual([0, 0]);
    expect(before.entries).toEqual([]);
  });

  test("a gesture that comes back to where it began leaves no step", () => {
    const state = fold(start([0]), [set([0], [2], "g"), set([0], [0], "g")]);
    expect(state.entries).toEqual([]);
    expect(state.cursor).toBe(0);
  });

  test("a gesture over the same weights is one step from where it began to where it ended", () => {
    const state = fold(start([1, 1, 5]), [set([0, 1], [2, 3], "g"), set([0, 1], [4, 6], "g")]);
    expect(state.entries.map(({ weights, before, after }) => ({ weights, before, after }))).toEqual([
      { weights: [0, 1], before: [1, 1], after: [4, 6] },
    ]);
    expect(Array.from(fold(state, [{ kind: "undo" }]).scheme)).toEqual([1, 1, 5]);
  });

  test("an edit that changes nothing keeps what can be redone", () => {
    const state = fold(start([0]), [set([0], [2]), { kind: "undo" }, set([0], [0])]);
    expect(fold(state, [{ kind: "redo" }]).scheme[0]).toBe(2);
  });

  test("at most the limit is kept, the oldest go", () => {
    const steps = Array.from({ length: HISTORY_LIMIT + 5 }, (_, i) => set([0], [i + 1]));
    const state = fold(start([0]), steps);
    expect(state.entries.length).toBe(HISTORY_LIMIT);
    expect(state.entries[0]!.before).toEqual([5]);
    expect(state.cursor).toBe(HISTORY_LIMIT);
  });
});
