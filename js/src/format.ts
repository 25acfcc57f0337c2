/** How numbers read on screen. One place, so that a unit or a sign is never spelled twice. */

/** Narrow no-break space: between a number and its unit, and between groups of three digits. */
export const THIN = "\u202f";
export const MINUS = "−";
export const ARROW = "→";
export const ABOUT = "≈";
/** Before what was measured, in the place of ABOUT. */
export const MEASURED = `•${THIN}`;

const BYTE_UNITS = ["B", "KB", "MB", "GB", "TB"] as const;

/** Three significant digits, never in exponent form, without a trailing dot. */
export function digits(value: number, significant = 3): string {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  // Of the rounded value: 0.9996 with three digits is 1.00.
  const magnitude = Math.floor(Math.log10(Number(Math.abs(value).toPrecision(significant))));
  const decimals = Math.min(6, Math.max(0, significant - 1 - magnitude));
  const fixed = Math.abs(value).toFixed(decimals);
  return Number(fixed) === 0 ? "0" : (value < 0 ? MINUS : "") + fixed;
}

function byteExponent(bytes: number): number {
  let exponent = 0;
  for (let rest = Math.abs(bytes); rest >= 999.5 && exponent < BYTE_UNITS.length - 1; rest /= 1000)
    exponent++;
  return exponent;
}

const inUnit = (bytes: number, exponent: number): string =>
  exponent === 0 ? String(Math.round(bytes)) : digits(bytes / 1000 ** exponent);

/** Decimal units, as in Finder and on Apple's data sheets: 1 KB = 1000 bytes. */
export function bytes(value: number): string {
  const exponent = byteExponent(value);
  return inUnit(value, exponent) + THIN + BYTE_UNITS[exponent];
}

/** "45.2 → 11.9 MB", the unit once when both share it. */
export function bytesChange(before: number, after: number): string {
  const a = byteExponent(before);
  const b = byteExponent(after);
  if (before === after) return bytes(after);
  if (a === b) return `${inUnit(before, a)} ${ARROW} ${inUnit(after, b)}${THIN}${BYTE_UNITS[b]}`;
  return `${bytes(before)} ${ARROW} ${bytes(after)}`;
}

/** A loss: three digits, and a power of ten where they would be many zeros: "0.031", "1.2e−7". */
export function loss(value: number): string {
  if (value === 0 || !Number.isFinite(value) || Math.abs(value) >= 1e-4) return digits(value);
  return value.toExponential(1).replace("-", MINUS);
}

const THOUSANDS = ["", "K", "M", "G", "T"] as const;

/** Three significant digits and a power of a thousand: "1.23 M". */
export function quantity(value: number): string {
  let exponent = 0;
  for (let rest = Math.abs(value); rest >= 999.5 && exponent < THOUSANDS.length - 1; rest /= 1000) exponent++;
  if (exponent === 0) return digits(value);
  return digits(value / 1000 ** exponent) + THIN + THOUSANDS[exponent];
}

export function grouped(value: number): string {
  const rounded = Math.round(value);
  const plain = String(Math.abs(rounded)).replace(/\B(?=(\d{3})+$)/g, THIN);
  return rounded < 0 ? MINUS + plain : plain;
}

const FLOP_UNITS = ["FLOPs", "KFLOPs", "MFLOPs", "GFLOPs", "TFLOPs"] as const;

/** Floating-point operations, a multiply-add as two. */
export function flops(value: number): string {
  const exponent = byteExponent(value);
  return inUnit(value, exponent) + THIN + FLOP_UNITS[exponent];
}

export const exactBytes = (value: number): string => `${grouped(value)} bytes`;

export const milliseconds = (value: number): string => digits(value, value < 0.1 ? 2 : 3);

/** Relative change in sign and figure; "" when it rounds to nothing. */
export function percentChange(before: number, after: number): string {
  if (before === 0 || before === after) return "";
  const percent = ((after - before) / before) * 100;
  const size = Math.abs(percent);
  if (!(size >= 0.05)) return "";
  const shown = size < 9.95 ? size.toFixed(1) : size.toFixed(0);
  return `${percent < 0 ? MINUS : "+"}${shown}${THIN}%`;
}

/** The same change as words, for screen readers and titles. */
export function changeInWords(before: number, after: number, less: string, more: string): string {
  const change = percentChange(before, after);
  if (change === "") return "no change";
  return `${change.slice(1)} ${after < before ? less : more}`;
}

/** Signal to noise in decibels of a squared error over a sum of squares. */
export function decibels(noiseToSignal: number): string {
  if (Number.isNaN(noiseToSignal)) return "–";
  if (noiseToSignal === 0) return "none";
  return `${(-10 * Math.log10(noiseToSignal)).toFixed(1).replace("-", MINUS)}${THIN}dB`;
}

export function share(part: number, whole: number): string {
  if (whole <= 0 || part <= 0) return `0${THIN}%`;
  const percent = (part / whole) * 100;
  return percent < 0.5 ? `<${THIN}1${THIN}%` : `${percent.toFixed(0)}${THIN}%`;
}

export function bits(value: number): string {
  const rounded = Math.round(value * 100) / 100;
  return Number.isInteger(rounded) ? String(rounded) : rounded.toFixed(rounded < 10 ? 2 : 1);
}

/** "3.6 bits", "1 bit", with what is to stand between them */
export function inBits(value: number, space = " "): string {
  const number = bits(value);
  return `${number}${space}${number === "1" ? "bit" : "bits"}`;
}

export const plural = (count: number, noun: string): string =>
  `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;
