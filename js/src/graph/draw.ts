/** The picture on canvas 2D. Reads positions and per-item values; decides nothing. */

import { fitText, measured } from "../fitText";
import { type Palette, rampColor, rampInk } from "../theme";
import type { Item, Scene } from "./collapse";
import { FRAME_TITLE, type Layout } from "./layout";
import type { Box, Viewport } from "./viewport";

export interface Marks {
  /** colour value in 0…1 of an item, NaN for "has none" */
  value(id: number): number;
  /** whether the colours have a middle */
  diverging: boolean;
  /** text at the right of a box */
  figure(id: number): string;
  /** 0 none, 1 some, 2 all ops of the box are selected */
  selected(id: number): 0 | 1 | 2;
  hover: number;
  /** rectangle that is being drawn around boxes */
  band: Box | null;
}

const RADIUS = 5;
const FULL_TEXT_SCALE = 0.42;
/** How far each card of a stack lies behind the one before it. */
const CARD_OFFSET = 3;

export function drawScene(
  ctx: CanvasRenderingContext2D,
  { camera, size }: Viewport,
  scene: Scene,
  layout: Layout,
  palette: Palette,
  marks: Marks,
): void {
  const { scale } = camera;
  ctx.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
  ctx.clearRect(0, 0, size.width, size.height);
  ctx.setTransform(
    size.ratio * scale,
    0,
    0,
    size.ratio * scale,
    size.ratio * camera.x,
    size.ratio * camera.y,
  );
  const left = -camera.x / scale;
  const top = -camera.y / scale;
  const right = left + size.width / scale;
  const bottom = top + size.height / scale;
  const text = scale >= FULL_TEXT_SCALE;

  const visible = (id: number): boolean => {
    const b = layout.boxes;
    return (
      b[id * 4]! <= right &&
      b[id * 4 + 1]! <= bottom &&
      b[id * 4]! + b[id * 4 + 2]! >= left &&
      b[id * 4 + 1]! + b[id * 4 + 3]! >= top
    );
  };

  // Frames lie below edges, edges below boxes.
  for (const item of scene.items) if (item.expanded && visible(item.id)) frame(item.id);
  edges();
  for (const item of scene.items) if (!item.expanded && visible(item.id)) box(item.id);
  if (marks.band) rubberBand(marks.band);

  function outline(id: number, behind = 0): void {
    const b = layout.boxes;
    ctx.beginPath();
    ctx.roundRect(b[id * 4]! + behind, b[id * 4 + 1]! + behind, b[id * 4 + 2]!, b[id * 4 + 3]!, RADIUS);
  }

  /** The edges of the cards below the top one. */
  function cards(id: number, count: number, fill: string): void {
    for (let card = Math.min(2, count - 1); card > 0; card--) {
      outline(id, card * CARD_OFFSET);
      ctx.fillStyle = palette.background;
      ctx.fill();
      ctx.globalAlpha = 0.65;
      ctx.fillStyle = fill;
      ctx.fill();
      ctx.globalAlpha = 1;
      ctx.strokeStyle = palette.border;
      ctx.lineWidth = 1;
      ctx.stroke();
    }
  }

  function rubberBand(band: Box): void {
    ctx.fillStyle = palette.accent;
    ctx.globalAlpha = 0.12;
    ctx.fillRect(band.x, band.y, band.width, band.height);
    ctx.globalAlpha = 1;
    ctx.strokeStyle = palette.accent;
    ctx.lineWidth = 1 / scale;
    ctx.strokeRect(band.x, band.y, band.width, band.height);
  }

  function border(id: number): void {
    // An open frame shows its marked boxes itself; only when all of it is selected does it say so.
    const state = marks.selected(id);
    const chosen = scene.items[id]!.expanded && state === 1 ? 0 : state;
    const hovered = marks.hover === id;
    ctx.lineWidth = chosen === 2 || hovered ? 2 : chosen === 1 ? 1.5 : 1;
    ctx.strokeStyle = chosen > 0 || hovered ? palette.accent : palette.border;
    ctx.setLineDash(chosen === 1 ? [5, 3] : []);
    outline(id);
    ctx.stroke();
    ctx.setLineDash([]);
  }

  function frame(id: number): void {
    const item = scene.items[id]!;
    const [x, y, w] = [layout.boxes[id * 4]!, layout.boxes[id * 4 + 1]!, layout.boxes[id * 4 + 2]!];
    outline(id);
    ctx.fillStyle = palette.surface;
    ctx.fill();
    border(id);
    if (!text) return;
    glyph(x, y + (FRAME_TITLE - 26) / 2, true, palette.muted);
    label(item.label, figure(item), x, y + FRAME_TITLE / 2 + 0.5, w, palette.text, palette.muted, true, true);
  }

  function box(id: number): void {
    const item = scene.items[id]!;
    const value = marks.value(id);
    const none = Number.isNaN(value);
    const [x, y, w, h] = [
      layout.boxes[id * 4]!,
      layout.boxes[id * 4 + 1]!,
      layout.boxes[id * 4 + 2]!,
      layout.boxes[id * 4 + 3]!,
    ];
    const fill = none ? palette.surface : rampColor(palette.dark, value, marks.diverging);
    if (item.repeats > 1) cards(id, item.repeats, fill);
    outline(id);
    ctx.fillStyle = palette.background;
    ctx.fill();
    ctx.fillStyle = fill;
    ctx.fill();
    border(id);
    if (!text) return;
    const ink = none ? palette.text : rampInk(palette.dark, value, marks.diverging);
    const quiet = none ? palette.muted : ink;
    if (item.expandable) glyph(x, y + (h - 26) / 2, false, quiet);
    label(item.label, figure(item), x, y + h / 2 + 0.5, w, ink, quiet, item.expandable, false);
  }

  function figure(item: Item): string {
    const own = marks.figure(item.id);
    if (item.repeats === 1) return own;
    return own === "" ? `× ${item.repeats}` : `× ${item.repeats} · ${own}`;
  }

  function glyph(x: number, y: number, minus: boolean, ink: string): void {
    const [cx, cy] = [x + 12, y + 13];
    ctx.strokeStyle = ink;
    ctx.lineWidth = 1.2;
    ctx.beginPath();
    ctx.moveTo(cx - 3.5, cy);
    ctx.lineTo(cx + 3.5, cy);
    if (!minus) {
      ctx.moveTo(cx, cy - 3.5);
      ctx.lineTo(cx, cy + 3.5);
    }
    ctx.stroke();
  }

  function label(
    name: string,
    figure: string,
    x: number,
    y: number,
    width: number,
    ink: string,
    quiet: string,
    indented: boolean,
    strong: boolean,
  ): void {
    ctx.textBaseline = "middle";
    ctx.font = `10.5px ${palette.font}`;
    ctx.textAlign = "right";
    ctx.fillStyle = quiet;
    const figureWidth = figure === "" ? 0 : measured(ctx, figure) + 8;
    if (figure !== "") ctx.fillText(figure, x + width - 8, y);
    ctx.font = `${strong ? "600 " : ""}11.5px ${palette.font}`;
    ctx.textAlign = "left";
    ctx.fillStyle = ink;
    const start = indented ? 22 : 9;
    ctx.fillText(fitText(ctx, name, width - start - figureWidth - 8), x + start, y);
  }

  function edges(): void {
    const arrow = scale >= 0.35;
    ctx.strokeStyle = palette.edge;
    ctx.fillStyle = palette.edge;
    ctx.lineWidth = 1;
    ctx.globalAlpha = 0.75;
    ctx.beginPath();
    for (const edge of layout.edges) {
      const p = edge.points;
      const [x0, y0, x1, y1] = [p[0]!, p[1]!, p[p.length - 2]!, p[p.length - 1]!];
      if (Math.max(y0, y1) < top || Math.min(y0, y1) > bottom) continue;
      if (Math.max(x0, x1) < left - 200 || Math.min(x0, x1) > right + 200) continue;
      ctx.moveTo(x0, y0);
      // Through the midpoints: a smooth line that keeps to the router's corridor.
      for (let i = 2; i < p.length - 2; i += 2) {
        const last = i + 4 >= p.length;
        const [mx, my] = last ? [x1, y1] : [(p[i]! + p[i + 2]!) / 2, (p[i + 1]! + p[i + 3]!) / 2];
        ctx.quadraticCurveTo(p[i]!, p[i + 1]!, mx, my);
      }
      if (p.length <= 4) ctx.lineTo(x1, y1);
    }
    ctx.stroke();
    if (arrow) {
      ctx.beginPath();
      for (const edge of layout.edges) {
        const p = edge.points;
        const n = p.length;
        const [x1, y1] = [p[n - 2]!, p[n - 1]!];
        if (y1 < top || y1 > bottom || x1 < left || x1 > right) continue;
        const angle = Math.atan2(y1 - p[n - 3]!, x1 - p[n - 4]!);
        ctx.moveTo(x1, y1);
        ctx.lineTo(x1 - 5 * Math.cos(angle - 0.45), y1 - 5 * Math.sin(angle - 0.45));
        ctx.lineTo(x1 - 5 * Math.cos(angle + 0.45), y1 - 5 * Math.sin(angle + 0.45));
      }
      ctx.fill();
    }
    ctx.globalAlpha = 1;
  }
}
