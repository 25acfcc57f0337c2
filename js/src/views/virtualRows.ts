import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import { useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";
import { ROW_HEIGHT } from "../theme";

export const HEADER = 46;
export const FOOTER = 28;
const OVERSCAN = 3;

export type Rows = Virtualizer<HTMLDivElement, HTMLDivElement>;

/** Only the rows in view exist; the active one always does, so that focus in it survives scrolling. */
export function useVirtualRows(
  scroller: { current: HTMLDivElement | null },
  count: number,
  active: number,
): Rows {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const kept = useRef(active);
  kept.current = active;
  const options = {
    count,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: OVERSCAN,
    paddingStart: HEADER,
    paddingEnd: FOOTER,
    scrollPaddingStart: HEADER,
    scrollPaddingEnd: FOOTER,
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    onChange: () => redraw(0),
    rangeExtractor: (r: { startIndex: number; endIndex: number; overscan: number; count: number }) => {
      const first = Math.max(0, r.startIndex - r.overscan);
      const last = Math.min(r.count - 1, r.endIndex + r.overscan);
      const indices = Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
      const keep = kept.current;
      if (keep >= 0 && keep < r.count && (keep < first || keep > last)) indices.push(keep);
      return indices;
    },
  };
  const [virtual] = useState(() => new Virtualizer<HTMLDivElement, HTMLDivElement>(options));
  virtual.setOptions(options);
  useLayoutEffect(() => virtual._didMount(), [virtual]);
  useLayoutEffect(() => virtual._willUpdate());
  return virtual;
}

export function inView(virtual: Rows, index: number): boolean {
  const top = index * ROW_HEIGHT;
  const offset = virtual.scrollOffset ?? 0;
  return top >= offset && top + ROW_HEIGHT <= offset + (virtual.scrollRect?.height ?? 0) - HEADER - FOOTER;
}
