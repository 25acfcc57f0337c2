import { expect, test } from "vitest";
import { rangeText } from "../src/columns";
import * as format from "../src/format";

const T = format.THIN;

test("bytes are decimal, three digits", () => {
  expect(format.bytes(0)).toBe(`0${T}B`);
  expect(format.bytes(999)).toBe(`999${T}B`);
  expect(format.bytes(1000)).toBe(`1.00${T}KB`);
  expect(format.bytes(999_600)).toBe(`1.00${T}MB`);
  expect(format.bytes(10_934_000)).toBe(`10.9${T}MB`);
});

test("a change names a shared unit once and nothing twice", () => {
  expect(format.bytesChange(10.9e6, 3.12e6)).toBe(`10.9 → 3.12${T}MB`);
  expect(format.bytesChange(1.18e6, 298e3)).toBe(`1.18${T}MB → 298${T}KB`);
  expect(format.bytesChange(640e3, 640e3)).toBe(`640${T}KB`);
});

test("changes carry a sign, and words for those who hear them", () => {
  expect(format.percentChange(100, 28)).toBe(`−72${T}%`);
  expect(format.percentChange(100, 104)).toBe(`+4.0${T}%`);
  expect(format.percentChange(100, 100.01)).toBe("");
  expect(format.percentChange(0, 5)).toBe("");
  expect(format.changeInWords(100, 28, "smaller", "larger")).toBe(`72${T}% smaller`);
  expect(format.changeInWords(1, 1, "smaller", "larger")).toBe("no change");
});

test("small latencies keep two digits and never turn into exponents", () => {
  expect(format.milliseconds(0.00052)).toBe("0.00052");
  expect(format.milliseconds(0.733)).toBe("0.733");
  expect(format.milliseconds(12.34)).toBe("12.3");
  expect(format.milliseconds(0.0000001)).toBe("0");
});

test("exact numbers are grouped", () => {
  expect(format.exactBytes(45432112)).toBe(`45${T}432${T}112 bytes`);
});

test("bits", () => {
  expect(format.bits(16)).toBe("16");
  expect(format.bits(4.2044)).toBe("4.20");
});

test("one bit is no bits", () => {
  expect([16, 3.625, 1.001, 1, 0.5].map((value) => format.inBits(value))).toEqual([
    "16 bits",
    "3.63 bits",
    "1 bit",
    "1 bit",
    "0.50 bits",
  ]);
});

test("a range names a shared unit once, and takes no digit for a unit", () => {
  const bins = (whole: boolean) => ({
    edges: Float64Array.of(0, 1000),
    log: false,
    zero: false,
    whole,
    bar: Uint8Array.of(0),
    counts: Uint32Array.of(1),
  });
  expect(rangeText("bits", bins(true), [1, 5])).toBe(`1–4${T}bits`);
  expect(rangeText("bits", bins(true), [1, 2])).toBe(`1${T}bit`);
  expect(rangeText("elements", bins(false), [200, 800])).toBe("200–800");
});
