/** The whole picture, small: where each box is on the map, and its colours. */

import { type Palette, rampColor } from "../theme";
import type { Scene } from "./collapse";
import type { Layout } from "./layout";
import type { Box } from "./viewport";

const MAP_WIDTH = 64;
const MAP_HEIGHT = 132;
/** How much of the canvas's height it may take. */
const MOST_OF_CANVAS = 0.4;
/** A long chain of boxes would be a hair: it is drawn at least this wide. */
const MIN_WIDTH = 26;
const PAD = 4;

/** From the edges of the canvas, in pixels; styles/graph.css has the same. */
export const INSET = { side: 8, bottom: 26 } as const;

export type Corner = "left" | "right";

export interface MapScale {
  width: number;
  height: number;
  /** pixels of the map for one of the picture */
  x: number;
  y: number;
}

export function mapScale(layout: Layout, canvasHeight: number): MapScale {
  const most = Math.min(MAP_HEIGHT, MOST_OF_CANVAS * canvasHeight);
  const [w, h] = [Math.max(1, layout.width), Math.max(1, layout.height)];
  const even = Math.min((MAP_WIDTH - 2 * PAD) / w, (most - 2 * PAD) / h);
  const x = Math.max(even, (MIN_WIDTH - 2 * PAD) / w);
  const y = Math.max(even, (MIN_WIDTH - 2 * PAD) / h);
  return { width: w * x + 2 * PAD, height: h * y + 2 * PAD, x, y };
}

/** Where a part of the picture is on the map. */
export const onMap = (map: MapScale, box: Box): Box => ({
  x: PAD + box.x * map.x,
  y: PAD + box.y * map.y,
  width: box.width * map.x,
  height: box.height * map.y,
});

/** The point of the picture under a point of the map. */
export const fromMap = (map: MapScale, x: number, y: number): [number, number] => [
  (x - PAD) / map.x,
  (y - PAD) / map.y,
];

/** Of a module: it is what one looks for. */
const WORTH = 4;

/** The corner in which the map hides less, of where it would lie in the picture. */
export function freeCorner(scene: Scene, layout: Layout, left: Box, right: Box): Corner {
  const hidden = (map: Box): number => {
    let area = 0;
    for (const { id, expanded, expandable } of scene.items) {
      if (expanded) continue;
      const [x, y, width, height] = layout.boxes.subarray(id * 4) as unknown as [
        number,
        number,
        number,
        number,
      ];
      const wide = Math.min(x + width, map.x + map.width) - Math.max(x, map.x);
      const tall = Math.min(y + height, map.y + map.height) - Math.max(y, map.y);
      if (wide > 0 && tall > 0) area += wide * tall * (expandable ? WORTH : 1);
    }
    return area;
  };
  return hidden(left) < hidden(right) ? "left" : "right";
}

/** Boxes that share a pixel with the one before are left out: nobody could tell them apart. */
export function drawMap(
  ctx: CanvasRenderingContext2D,
  map: MapScale,
  ratio: number,
  scene: Scene,
  layout: Layout,
  palette: Palette,
  colours: { diverging: boolean; value(id: number): number },
): void {
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, map.width, map.height);
  const taken = new Set<number>();
  for (const { id, expanded } of scene.items) {
    const [bx, by, bw, bh] = layout.boxes.subarray(id * 4, id * 4 + 4) as unknown as number[];
    const { x, y, width, height } = onMap(map, { x: bx!, y: by!, width: bw!, height: bh! });
    if (expanded) {
      ctx.fillStyle = palette.surface;
      ctx.fillRect(x, y, width, height);
      continue;
    }
    const pixel = Math.round(y * ratio) * 4096 + Math.round(x * ratio);
    if (taken.has(pixel)) continue;
    taken.add(pixel);
    const value = colours.value(id);
    ctx.fillStyle = Number.isNaN(value) ? palette.border : rampColor(palette.dark, value, colours.diverging);
    ctx.fillRect(x, y, Math.max(1, width), Math.max(1, height));
  }
}
