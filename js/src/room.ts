/** The height that the host leaves for a view: marimo's outputs scroll beyond 610 px. */

import { around } from "./hostTheme";
import { MIN_HEIGHT } from "./theme";

/** How high a view can be before what is around it scrolls; all that is wanted where that is of no use. */
export function heightWithin(el: Element, wanted: number): number {
  for (let node = around(el); node; node = around(node)) {
    const { maxHeight, overflowY, paddingTop, paddingBottom } = getComputedStyle(node);
    const most = Number.parseFloat(maxHeight);
    if (Number.isNaN(most) || !maxHeight.endsWith("px") || !/auto|scroll/.test(overflowY)) continue;
    const room = Math.floor(most - Number.parseFloat(paddingTop) - Number.parseFloat(paddingBottom));
    return room >= MIN_HEIGHT ? Math.min(wanted, room) : wanted;
  }
  return wanted;
}
