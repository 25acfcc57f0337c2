import { expect, test } from "vitest";
import { budgetHint, budgetText, budgetUse, decodeBudgets, parseBudget } from "../src/budgets";
import { decodeProgram } from "../src/protocol";
import { synthetic } from "./synthetic";

const units = decodeProgram(synthetic().program).budgetUnits;

test("budgets are read as people write them, in the units that Python sends", () => {
  expect(parseBudget("4 MB", units)).toEqual(["size", 4e6]);
  expect(parseBudget(" 3.6bits ", units)).toEqual(["bits", 3.6]);
  expect(parseBudget("500 µs", units)).toEqual(["latency", 0.5]);
  expect(parseBudget("2 mJ", units)).toEqual(["energy", 2]);
  for (const wrong of ["4", "MB", "4 apples", "-4 MB", "0 MB", ""])
    expect(parseBudget(wrong, units)).toBeNull();
});

test("what is no budget is answered with what to write", () => {
  expect(budgetHint("3.6")).toBe("Write “3.6 MB” or “3.6 bits”");
  expect(budgetHint("4 apples")).toContain("Write a number and a unit");
});

test("and written with what the plan takes of them, in words", () => {
  expect(budgetText("size", 4e6)).toBe("4\u202fMB");
  expect(budgetUse("size", 3.12e6, 4e6)).toBe("78\u202f% of 4\u202fMB budget");
  expect(budgetUse("latency", 5.6, 5)).toBe("12\u202f% over the 5\u202fms budget");
  expect(budgetUse("bits", 4.0001, 4)).toBe("0.1\u202f% over the 4\u202fbits budget");
  expect(decodeBudgets({ size: 4e6, other: 1 })).toEqual({ size: 4e6 });
});
