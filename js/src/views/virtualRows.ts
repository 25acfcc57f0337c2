import { type ReadonlySignal, useSignalEffect } from "@preact/signals";
import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import { useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";
import { ROW_HEIGHT } from "../theme";
import { type Slot, Slots } from "./slots";

export const HEADER = 46;
export const FOOTER = 28;
const OVERSCAN = 3;
/** Rows that are put in order in one frame. */
const MOVES = 2;

export type Rows = Virtualizer<HTMLDivElement, HTMLDivElement>;

/**
 * Only the rows in view exist; the active one always does, so that focus in it survives scrolling. A scroll neither
 * makes elements nor draws components: it gives slots other ops.
 *
 * @param gesturing whether a slider is held: rows that are out of view then need not follow it
 * @param rests called when a scroll has ended
 */
export function useVirtualRows(
  scroller: { current: HTMLDivElement | null },
  order: Int32Array,
  active: ReadonlySignal<number>,
  gesturing: ReadonlySignal<boolean>,
  rests: () => void,
): { virtual: Rows; slots: readonly Slot[] } {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const [slots] = useState(() => new Slots());
  const place = (rows: Rows): readonly Slot[] => {
    slots.show(order, wanted(rows, Math.min(active.peek(), order.length - 1)));
    // What comes into view later has not followed.
    slots.look(0, order.length);
    return slots.list;
  };
  const frame = useRef(0);
  /** Moving elements takes time that a scroll does not have, and of one frame not too much. */
  const sort = (): void => {
    cancelAnimationFrame(frame.current);
    if (virtual.isScrolling || !canMove(scroller.current) || !slots.sort(MOVES)) return;
    redraw(0);
    frame.current = requestAnimationFrame(sort);
  };
  const update = (): void => {
    if (slots.list !== place(virtual)) redraw(0);
    sort();
  };
  const options = {
    count: order.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_HEIGHT,
    paddingStart: HEADER,
    paddingEnd: FOOTER,
    scrollPaddingStart: HEADER,
    scrollPaddingEnd: FOOTER,
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    onChange: () => {
      update();
      if (!virtual.isScrolling) rests();
    },
  };
  const [virtual] = useState(() => new Virtualizer<HTMLDivElement, HTMLDivElement>(options));
  virtual.setOptions(options);
  useLayoutEffect(() => virtual._didMount(), [virtual]);
  useLayoutEffect(() => virtual._willUpdate());
  useLayoutEffect(() => {
    sort();
    return () => cancelAnimationFrame(frame.current);
  }, [order]);
  useSignalEffect(() => {
    active.value;
    update();
  });
  useSignalEffect(() => {
    if (gesturing.value) slots.look(...rowsInView(virtual));
  });
  return { virtual, slots: place(virtual) };
}

/** Places of the rows that exist: always as many as ever fit, so that a scroll needs no more slots than there are. */
function wanted(virtual: Rows, active: number): number[] {
  const { count } = virtual.options;
  const range = virtual.calculateRange();
  if (!range) return [];
  const fit = Math.ceil((virtual.scrollRect?.height ?? 0) / ROW_HEIGHT) + 1;
  const size = Math.min(count, fit + 2 * OVERSCAN);
  const first = Math.max(0, Math.min(range.startIndex - OVERSCAN, count - size));
  const indices = Array.from({ length: size }, (_, i) => first + i);
  const farther = range.startIndex - first > first + size - 1 - range.endIndex ? 0 : size - 1;
  if (active >= 0 && (active < first || active >= first + size)) indices[farther] = active;
  return indices;
}

/** Whether rows can be moved without a loss of focus in them: not every browser can. */
const canMove = (within: HTMLElement | null): boolean =>
  within !== null && ("moveBefore" in Element.prototype || !within.matches(":focus-within"));

/** Between the header and the total, from the top of the first row. */
function view(virtual: Rows): [top: number, bottom: number] {
  const top = virtual.scrollOffset ?? 0;
  return [top, top + (virtual.scrollRect?.height ?? 0) - HEADER - FOOTER];
}

/** The first and the last row of which something is in view. */
function rowsInView(virtual: Rows): [first: number, last: number] {
  const [top, bottom] = view(virtual);
  return [Math.floor(top / ROW_HEIGHT), Math.ceil(bottom / ROW_HEIGHT) - 1];
}

/** Whether all of a row is in view. */
export function inView(virtual: Rows, index: number): boolean {
  const [top, bottom] = view(virtual);
  return index * ROW_HEIGHT >= top && (index + 1) * ROW_HEIGHT <= bottom;
}
