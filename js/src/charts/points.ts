/** Points between two axes: where they are, which one is under the pointer, and the axes themselves. */

import type { Palette } from "../theme";
import { type Area, logTicks, ticks } from "./canvas";

export interface Axis {
  from: number;
  to: number;
  log: boolean;
  title: string;
  tick(value: number): string;
}

/** An axis that holds all finite values, those above 0 where it is logarithmic, with some room around. */
export function axisFor(
  values: Iterable<number>,
  log: boolean,
  title: string,
  tick: (value: number) => string,
): Axis {
  let [from, to] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    if (!Number.isFinite(value) || (log && value <= 0)) continue;
    from = Math.min(from, value);
    to = Math.max(to, value);
  }
  if (from > to) [from, to] = log ? [1, 10] : [0, 1];
  const room = log ? (to / from) ** 0.05 || 1 : (to - from) * 0.05;
  if (log) return { from: from / Math.max(room, 1.1), to: to * Math.max(room, 1.1), log, title, tick };
  return { from: from - (room || 1), to: to + (room || 1), log, title, tick };
}

/** 0 at the axis' start, 1 at its end; values off it are at its ends. */
export function share(axis: Axis, value: number): number {
  const at = axis.log
    ? Math.log(Math.max(value, Number.MIN_VALUE) / axis.from) / Math.log(axis.to / axis.from)
    : (value - axis.from) / (axis.to - axis.from);
  return Math.min(1, Math.max(0, at));
}

export interface Places {
  x: Float32Array;
  y: Float32Array;
}

export const EMPTY: Places = { x: new Float32Array(0), y: new Float32Array(0) };

/** Where points are in an area; NaN for those without a value. */
export function placed(
  area: Area,
  axes: readonly [Axis, Axis],
  count: number,
  values: (point: number) => readonly [number, number],
): Places {
  const places = { x: new Float32Array(count), y: new Float32Array(count) };
  for (let p = 0; p < count; p++) {
    const [a, b] = values(p);
    const known = !Number.isNaN(a) && !Number.isNaN(b);
    places.x[p] = known ? area.x + share(axes[0], a) * area.width : Number.NaN;
    places.y[p] = known ? area.y + (1 - share(axes[1], b)) * area.height : Number.NaN;
  }
  return places;
}

/** In pixels: how near the pointer has to be, and how far apart points may be that are as good as one. */
const REACH = 9;
const SAME = 2;

/** The point under the pointer, or -1; of several the last drawn. */
export function nearest({ x, y }: Places, at: { x: number; y: number }): number {
  let [found, best] = [-1, REACH * REACH];
  for (let p = 0; p < x.length; p++) {
    const square = (x[p]! - at.x) ** 2 + (y[p]! - at.y) ** 2;
    if (square <= best) [found, best] = [p, square];
  }
  return found;
}

/** As many points as lie on one, itself included: nobody could tell them apart. */
export function together(places: Places, point: number): number {
  const [x, y] = [places.x[point]!, places.y[point]!];
  return pointsInside(places, { x: x - SAME, y: y - SAME }, { x: x + SAME, y: y + SAME }).length;
}

/** Points in a rectangle, given by two corners. */
export function pointsInside(
  { x, y }: Places,
  a: { x: number; y: number },
  b: { x: number; y: number },
): number[] {
  const [left, right] = [Math.min(a.x, b.x), Math.max(a.x, b.x)];
  const [top, bottom] = [Math.min(a.y, b.y), Math.max(a.y, b.y)];
  const found: number[] = [];
  for (let p = 0; p < x.length; p++)
    if (x[p]! >= left && x[p]! <= right && y[p]! >= top && y[p]! <= bottom) found.push(p);
  return found;
}

export const areaOf = ({ width, height }: { width: number; height: number }): Area => ({
  x: 68,
  y: 7,
  width: Math.max(0, width - 84),
  height: Math.max(0, height - 25),
});

/** Hairlines and figures; titles stand at the axes' ends. */
export function drawAxes(
  ctx: CanvasRenderingContext2D,
  colours: Palette,
  area: Area,
  [across, up]: readonly [Axis, Axis],
): void {
  ctx.font = `10px ${colours.font}`;
  ctx.fillStyle = colours.muted;
  ctx.strokeStyle = colours.border;
  ctx.lineWidth = 0.5;
  ctx.textBaseline = "alphabetic";
  ctx.textAlign = "center";
  const titled = area.x + area.width - ctx.measureText(across.title).width - 12;
  for (const tick of marks(across, area.width / 110)) {
    const x = area.x + share(across, tick) * area.width;
    line(ctx, x, area.y, x, area.y + area.height);
    if (x < titled) ctx.fillText(across.tick(tick), x, area.y + area.height + 13);
  }
  ctx.textAlign = "right";
  ctx.fillText(across.title, area.x + area.width, area.y + area.height + 13);
  ctx.textBaseline = "middle";
  for (const tick of marks(up, Math.max(2, area.height / 26))) {
    const y = area.y + (1 - share(up, tick)) * area.height;
    line(ctx, area.x, y, area.x + area.width, y);
    ctx.fillText(up.tick(tick), area.x - 6, y);
  }
  drawTitleUp(ctx, colours, area, up.title);
  ctx.textAlign = "left";
}

/** Along its axis where that is long enough, else inside: where the front and large weights with small errors never are. */
function drawTitleUp(ctx: CanvasRenderingContext2D, colours: Palette, area: Area, title: string): void {
  if (ctx.measureText(title).width <= area.height + area.y) {
    ctx.save();
    ctx.translate(12, area.y + area.height / 2);
    ctx.rotate(-Math.PI / 2);
    ctx.textAlign = "center";
    ctx.fillText(title, 0, 0);
    ctx.restore();
    return;
  }
  ctx.textAlign = "left";
  ctx.textBaseline = "bottom";
  ctx.lineWidth = 4;
  ctx.lineJoin = "round";
  ctx.strokeStyle = colours.background;
  ctx.strokeText(title, area.x + 5, area.y + area.height - 2);
  ctx.fillText(title, area.x + 5, area.y + area.height - 2);
}

function marks(axis: Axis, most: number): number[] {
  const all = axis.log ? logTicks(axis.from, axis.to) : ticks(axis.from, axis.to, most);
  const every = Math.ceil(all.length / Math.max(1, most));
  return all.filter((_, i) => i % every === 0);
}

function line(ctx: CanvasRenderingContext2D, x0: number, y0: number, x1: number, y1: number): void {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}
