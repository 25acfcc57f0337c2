/** Which box is under a point: descends through frames, so only siblings are compared. */

import type { Item, Scene } from "./collapse";
import type { Layout } from "./layout";

/** Edge length of the square +/− at a module's left edge, in scene units. */
export const TOGGLE = 18;

export interface Hit {
  item: Item;
  /** the point is on the +/− of the box */
  toggle: boolean;
}

export function hitTest(scene: Scene, layout: Layout, x: number, y: number): Hit | null {
  let ids = scene.roots;
  let found: Item | null = null;
  search: for (;;) {
    for (const id of ids) {
      const [left, top] = [layout.boxes[id * 4]!, layout.boxes[id * 4 + 1]!];
      if (x < left || y < top) continue;
      if (x > left + layout.boxes[id * 4 + 2]! || y > top + layout.boxes[id * 4 + 3]!) continue;
      found = scene.items[id]!;
      ids = found.children;
      continue search;
    }
    break;
  }
  if (!found) return null;
  const dx = x - layout.boxes[found.id * 4]!;
  const dy = y - layout.boxes[found.id * 4 + 1]!;
  return { item: found, toggle: found.expandable && dx <= TOGGLE + 4 && dy <= TOGGLE + 6 };
}

/** Closed boxes that a rectangle touches. */
export function boxesIn(
  scene: Scene,
  layout: Layout,
  area: { x: number; y: number; width: number; height: number },
): Item[] {
  return scene.items.filter(({ id, expanded }) => {
    const [x, y] = [layout.boxes[id * 4]!, layout.boxes[id * 4 + 1]!];
    return (
      !expanded &&
      x <= area.x + area.width &&
      y <= area.y + area.height &&
      x + layout.boxes[id * 4 + 2]! >= area.x &&
      y + layout.boxes[id * 4 + 3]! >= area.y
    );
  });
}
