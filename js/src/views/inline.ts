import { effect, type ReadonlySignal, useComputed, useSignal } from "@preact/signals";
import type { RefObject } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

/**
 * A property of an element's inline style that follows a signal: less to find again than a whole style. Written within
 * the change itself, where `useSignalEffect` would ask for a frame and two timers at every step of a drag.
 */
export function useStyle(
  property: "width" | "backgroundPosition" | "boxShadow" | "transform",
  value: ReadonlySignal<string>,
): RefObject<HTMLDivElement | null> {
  const element = useRef<HTMLDivElement | null>(null);
  useWritten(value, (text) => {
    element.current!.style[property] = text;
  });
  return element;
}

/** Hand on every value of a signal, at first and within the change that brings another one. */
function useWritten<T>(value: ReadonlySignal<T>, write: (value: T) => void): void {
  useLayoutEffect(
    () =>
      effect(() => {
        try {
          write(value.value);
        } catch {
          // Whatever is drawn from the same numbers fails too and says so; the change itself must go on.
        }
      }),
    [value],
  );
}

/**
 * A computed value as a signal of its own, which tells of another value alone: what follows it is not even asked at a
 * step of a drag that leaves it as it was.
 */
export function useSettled<T>(compute: () => T): ReadonlySignal<T> {
  const computed = useComputed(compute);
  const settled = useSignal(computed.peek());
  useWritten(computed, (value) => {
    settled.value = value;
  });
  return settled;
}

/** What a component is given, as a signal: a computed value that reads it follows when it is given something else. */
export function useGiven<T>(value: T): ReadonlySignal<T> {
  const given = useSignal(value);
  useLayoutEffect(() => {
    given.value = value;
  }, [given, value]);
  return given;
}

/** Fills an element from the left by so many pixels, in its own colour. */
export const insetShadow = (pixels: number): string => `inset ${Math.round(pixels)}px 0`;
