import { describe, expect, test } from "vitest";
import { logTicks, ticks } from "../src/charts/canvas";
import { axisFor, nearest, placed, pointsInside, share, together } from "../src/charts/points";
import { stepsOf } from "../src/charts/steps";
import { eachColumn, levelsToShow, moduleRuns, opAt, startTimes, zoomed } from "../src/charts/timeline";
import { nextSteps, planErrorOf, readersOf, weightErrors } from "../src/charts/weights";
import { createPriced, price } from "../src/estimate";
import { fitText } from "../src/fitText";
import { applyEdit, type HistoryState } from "../src/history";
import { decodeCosts, decodeProgram } from "../src/protocol";
import { synthetic } from "./synthetic";

const made = synthetic({ errors: true });
const [program, costs] = [decodeProgram(made.program), decodeCosts(made.costs)];
const schemes = costs.schemes.length;

describe("the timeline", () => {
  const starts = startTimes([1, 0, 2], new Float64Array(4));

  test("ops begin where those before them end, and one is found by its time", () => {
    expect([...starts]).toEqual([0, 1, 1, 3]);
    expect([-1, 0, 0.9, 1, 2.9, 3].map((ms) => opAt(starts, ms))).toEqual([-1, 0, 0, 2, 2, -1]);
  });

  test("ops narrower than a pixel share a column, and columns that show the same are one unless they are wide", () => {
    const columns = (scale: number, bytes: number[]): number[][] => {
      const drawn: number[][] = [];
      const draw = (left: number, width: number, value: number): void =>
        void drawn.push([left, width, value]);
      eachColumn((op) => op * scale, [0, bytes.length], bytes, bytes, draw);
      return drawn;
    };
    expect(columns(0.5, [1, 9, 0, 9, 4, 4])).toEqual([
      [0, 2, 9],
      [2, 1, 4],
    ]);
    expect(columns(2, [7, 7, 3])).toEqual([
      [0, 4, 7],
      [4, 2, 3],
    ]);
    expect(columns(5, [7, 7])).toEqual([
      [0, 4, 7],
      [5, 4, 7],
    ]);
  });

  test("zooming keeps what is under the pointer, and stays inside", () => {
    const span = zoomed({ from: 0, to: 100 }, 2, 20, 100);
    expect(span).toEqual({ from: 10, to: 60 });
    expect(zoomed(span, 0.01, 20, 100)).toEqual({ from: 0, to: 100 });
  });

  test("runs of modules cover all ops in order, at every depth", () => {
    for (const runs of moduleRuns(program)) {
      expect(runs[0]!.first).toBe(0);
      runs.forEach((run, i) => {
        expect(run.end).toBe(runs[i + 1]?.first ?? program.ops.count);
      });
    }
    const [outer, inner] = levelsToShow(moduleRuns(program), 0, program.ops.count, 16);
    expect(outer!.map((run) => program.modules.path[run.module])).toEqual(["embeddings", "encoder", "pool"]);
    expect(inner!.map((run) => program.modules.path[run.module])).toContain("encoder.layer.3");
  });
});

test("a name on a canvas that has no room keeps its end", () => {
  // Every letter is 10 pixels wide.
  const ctx = { font: "", measureText: (text: string) => ({ width: 10 * text.length }) };
  const fitted = (text: string, room: number): string => fitText(ctx as CanvasRenderingContext2D, text, room);
  expect(fitted("encoder.layer.0", 150)).toBe("encoder.layer.0");
  expect(fitted("encoder.layer.0", 90)).toBe("…layer.0");
  expect(fitted("encoder.layer.0", 20)).toBe("");
});

describe("points", () => {
  test("those that nobody could tell apart are counted", () => {
    const places = { x: Float32Array.of(10, 11, 10, 40), y: Float32Array.of(5, 6, 20, 5) };
    expect([0, 1, 2, 3].map((point) => together(places, point))).toEqual([2, 2, 1, 1]);
  });

  test("lie on their axes, and are found by pointer and band", () => {
    const across = axisFor([1, 1000], true, "bytes", String);
    expect(share(across, Math.sqrt(1000))).toBeCloseTo(0.5);
    expect([share(across, 0), share(across, 1e9)]).toEqual([0, 1]);
    const up = axisFor([0, 10], false, "dB", String);
    const area = { x: 0, y: 0, width: 100, height: 100 };
    const places = placed(
      area,
      [across, up],
      3,
      (p) => [[1, 0] as const, [1000, 10] as const, [5, Number.NaN] as const][p]!,
    );
    expect(places.x[2]).toBeNaN();
    expect(nearest(places, { x: places.x[1]! + 3, y: places.y[1]! })).toBe(1);
    expect(nearest(places, { x: 50, y: 50 })).toBe(-1);
    expect(pointsInside(places, { x: 0, y: 100 }, { x: 100, y: 0 })).toEqual([0, 1]);
  });

  test("ticks are round and inside", () => {
    expect(ticks(0, 1, 5)).toEqual([0, 0.2, 0.4, 0.6000000000000001, 0.8, 1]);
    expect(logTicks(90, 20_000)).toEqual([100, 1000, 10_000]);
    expect(logTicks(3, 30)).toEqual([5, 10, 20]);
  });
});

describe("errors of weights", () => {
  const found = weightErrors(costs, null);

  test("are noise to signal, and of the outputs once the session has them", () => {
    expect(found.of(0, 0)).toBe(0);
    expect(found.of(0, 3)).toBeCloseTo(4 ** -4);
    const errors = {
      revision: 1,
      composes: false,
      anchors: [],
      grade: "estimated",
      what: "KL",
      metric: "kl",
      error: new Float64Array(schemes * made.weights).fill(2),
    };
    expect(weightErrors(costs, errors).of(5, 1)).toBe(2);
    expect(weightErrors(costs, errors).of(5, schemes), "a scheme that came later").toBeNaN();
    expect(planErrorOf(weightErrors(costs, errors), costs.start)).toBe(2 * made.weights);
  });

  test("next steps are legal, cheaper, and the worst is first", () => {
    const steps = nextSteps(costs, found, costs.start);
    expect(steps.length).toBeGreaterThan(20);
    const rates = steps.map((s) => s.error / s.bytes);
    expect(rates).toEqual([...rates].sort((a, b) => b - a));
    for (const { weight, scheme, bytes } of steps) {
      expect(costs.legal[weight * schemes + scheme]).toBe(1);
      expect(bytes).toBeGreaterThan(0);
    }
    const readers = readersOf(costs);
    expect(program.ops.name[readers[0]![0]!]).toBe("embeddings_word_embeddings");
  });
});

test("what each step of the history came to is what the plan costs there", () => {
  let state: HistoryState = { scheme: costs.start, int8: new Uint8Array(made.ops), entries: [], cursor: 0 };
  const sizes = [state];
  for (const scheme of [1, 3]) {
    state = applyEdit(state, {
      kind: "set",
      label: `step ${scheme}`,
      weights: [0, 1],
      schemes: [scheme, scheme],
    });
    sizes.push(state);
  }
  const expected = sizes.map(({ scheme }) => {
    const priced = createPriced(costs);
    price(costs, scheme, priced);
    return priced.sizeBytes;
  });
  expect(stepsOf(costs, state).map((s) => s.totals.sizeBytes)).toEqual(expected);
  const undone = applyEdit(applyEdit(state, { kind: "undo" }), { kind: "undo" });
  expect(stepsOf(costs, undone).map((s) => s.totals.sizeBytes)).toEqual(expected);
  expect(stepsOf(costs, undone).map((s) => s.label)).toEqual(["edit", "step 1", "step 3"]);
});
