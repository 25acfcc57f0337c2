/** Which columns a table shows that is not wide enough for all of them. */

import { expect, test } from "vitest";
import { type ColumnKey, columnsFor } from "../src/columns";

const keys = (width: number, errors = false): ColumnKey[] => columnsFor(width, errors).map((c) => c.key);

test.each([667, 685, 800, 900, 1200, 1600])("at %i px the module of an op is shown", (width) => {
  expect(keys(width)).toContain("module");
  expect(keys(width, true)).toContain("module");
});

test("a table never shows fewer columns than a narrower one, and none that it has no room for", () => {
  for (const errors of [false, true]) {
    let before: ColumnKey[] = [];
    for (let width = 560; width < 1800; width += 10) {
      const columns = columnsFor(width, errors);
      const now = columns.map((c) => c.key);
      expect(now).toEqual(expect.arrayContaining(before));
      const fixed = columns.slice(1).reduce((sum, c) => sum + c.width, 0);
      expect(fixed + columns[0]!.width).toBeLessThanOrEqual(width);
      before = now;
    }
  }
});

test("columns that were chosen are shown at any width, beside the name", () => {
  expect(columnsFor(500, true, ["flops", "size"]).map((c) => c.key)).toEqual(["name", "size", "flops"]);
});
