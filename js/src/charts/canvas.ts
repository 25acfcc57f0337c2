/** What the small charts draw with: sharp canvases of any size, ticks, and points on logarithmic axes. */

export interface Area {
  x: number;
  y: number;
  width: number;
  height: number;
}

const TICKS = [1, 2, 5, 10];

/** Round steps from 0 to at most `to`, about `count` of them. */
export function ticks(from: number, to: number, count: number): number[] {
  const rough = (to - from) / Math.max(1, count);
  if (!(rough > 0)) return [];
  const magnitude = 10 ** Math.floor(Math.log10(rough));
  const step = magnitude * TICKS.find((t) => t * magnitude >= rough)!;
  const found: number[] = [];
  for (let i = Math.ceil(from / step); i * step <= to * (1 + 1e-9); i++) found.push(i * step);
  return found;
}

/** Powers of ten within a range, and their multiples by 2 and 5 where the powers are few. */
export function logTicks(from: number, to: number): number[] {
  const found: number[] = [];
  const few = Math.log10(to / from) < 2;
  for (let power = Math.floor(Math.log10(from)); 10 ** power <= to; power++)
    for (const times of few ? [1, 2, 5] : [1]) {
      const tick = times * 10 ** power;
      if (tick >= from * (1 - 1e-9) && tick <= to * (1 + 1e-9)) found.push(tick);
    }
  return found;
}
