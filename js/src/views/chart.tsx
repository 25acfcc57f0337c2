import { effect, type Signal, useComputed } from "@preact/signals";
import type { ComponentChildren, HTMLAttributes, VNode } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Palette } from "../theme";
import { useGuard } from "./failure";

export interface ChartSize {
  width: number;
  height: number;
}

interface ChartProps extends HTMLAttributes<HTMLDivElement> {
  palette: Signal<Palette | null>;
  test: string;
  /** draws everything; is called again whenever a signal that it read changes, within that change */
  paint(ctx: CanvasRenderingContext2D, size: ChartSize, palette: Palette): void;
  /** ctrl or ⌘ and the wheel, or a sideways wheel */
  wheel?(e: WheelEvent): void;
}

/** A canvas as large as its place, which repaints itself. */
export function Chart({ palette, paint, wheel, test, children, ...rest }: ChartProps): VNode {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const latest = useRef({ paint, wheel });
  latest.current = { paint, wheel };
  const guard = useGuard();
  const repaint = useRef<() => void>(() => undefined);

  useLayoutEffect(() => {
    const el = canvas.current!;
    const ctx = el.getContext("2d");
    let stop = (): void => undefined;
    const size = { width: 0, height: 0 };
    repaint.current = () => {
      stop();
      stop = effect(() => {
        const colours = palette.value;
        if (!ctx || !colours || size.width === 0 || size.height === 0) return;
        const ratio = window.devicePixelRatio || 1;
        ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
        ctx.clearRect(0, 0, size.width, size.height);
        guard(() => latest.current.paint(ctx, size, colours));
      });
    };
    const observer = new ResizeObserver(([entry]) => {
      if (!entry) return;
      const { width, height } = entry.contentRect;
      const ratio = window.devicePixelRatio || 1;
      Object.assign(size, { width, height });
      el.width = Math.round(width * ratio);
      el.height = Math.round(height * ratio);
      repaint.current();
    });
    observer.observe(box.current!);
    const turned = (e: WheelEvent): void => latest.current.wheel?.(e);
    const place = box.current!;
    place.addEventListener("wheel", turned, { passive: false });
    return () => {
      stop();
      observer.disconnect();
      place.removeEventListener("wheel", turned);
    };
  }, [palette, guard]);
  useLayoutEffect(() => repaint.current(), [paint]);

  return (
    <div ref={box} {...rest} class={`tlr-chart ${rest.class ?? ""}`}>
      <canvas ref={canvas} data-testid={test} />
      {children}
    </div>
  );
}

/** Where a pointer is in an element. */
export function within(e: MouseEvent): { x: number; y: number } {
  const { left, top } = (e.currentTarget as HTMLElement).getBoundingClientRect();
  return { x: e.clientX - left, y: e.clientY - top };
}

interface ReaderProps {
  label: string;
  count: number;
  focus: Signal<number>;
  describe(item: number): string;
  /** what a key does besides moving; false if nothing */
  press?(e: KeyboardEvent, item: number): boolean;
  /** called for every item that keys come to, and with -1 when they leave */
  visit(item: number): void;
  children?: ComponentChildren;
}

/** A chart for keys and screen readers: one item at a time, in words. */
export function ChartReader({ label, count, focus, describe, press, visit, children }: ReaderProps): VNode {
  const at = Math.min(focus.value, Math.max(0, count - 1));
  const text = useComputed(() =>
    count > 0 ? describe(Math.min(focus.value, count - 1)) : "nothing to show",
  );
  const key = (e: KeyboardEvent): void => {
    const now = Math.min(focus.peek(), Math.max(0, count - 1));
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: count - 1 }[e.key];
    if (to !== undefined) {
      focus.value = Math.min(count - 1, Math.max(0, to));
      visit(focus.value);
    } else if (!press?.(e, now)) return;
    e.preventDefault();
    e.stopPropagation();
  };
  return (
    <div
      class="tlr-chart-reader"
      role="slider"
      tabIndex={0}
      aria-label={label}
      aria-valuemin={1}
      aria-valuemax={Math.max(1, count)}
      aria-valuenow={at + 1}
      aria-valuetext={text}
      onKeyDown={key}
      onBlur={() => visit(-1)}
    >
      {children}
    </div>
  );
}
