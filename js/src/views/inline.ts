import { effect, type ReadonlySignal, useSignal } from "@preact/signals";
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
  useLayoutEffect(
    () =>
      effect(() => {
        try {
          element.current!.style[property] = value.value;
        } catch {
          // Whatever is drawn from the same numbers fails too and says so; the change itself must go on.
        }
      }),
    [property, value],
  );
  return element;
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
