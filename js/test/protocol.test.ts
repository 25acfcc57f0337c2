/** What crosses the wire arrives as it was, however it was packed. */

import { expect, test } from "vitest";
import { f64, texts } from "../src/protocol";
import { view } from "./synthetic";

const few = { of: view(Uint8Array.from([1, 0, 1])), of_width: 1 };
const places = { of: view(Uint16Array.from([1, 0, 1])), of_width: 2 };
const wide = { of: view(Uint32Array.from([1, 0, 1])), of_width: 4 };

test.each([few, places, wide])("numbers that are alike travel once and arrive everywhere", (of) => {
  const rows = view(Float64Array.from([1, 2, 3, 4]));
  expect(f64({ rows, ...of })).toEqual(Float64Array.from([3, 4, 1, 2, 3, 4]));
});

test("there may be none", () => {
  const nothing = { of: view(new Uint16Array(0)), of_width: 2 };
  expect(f64({ rows: view(new Float64Array(0)), ...nothing })).toEqual(new Float64Array(0));
  expect(texts({ rows: [], ...nothing })).toEqual([]);
});

test.each([few, places, wide])("texts that are alike travel once and arrive everywhere", (of) => {
  expect(texts({ rows: ["<b>conv</b>", "linear"], ...of })).toEqual(["linear", "<b>conv</b>", "linear"]);
  expect(texts(["a", "a"])).toEqual(["a", "a"]);
});
