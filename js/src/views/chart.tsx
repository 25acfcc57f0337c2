import { effect, type Signal } from "@preact/signals";
import type { HTMLAttributes, VNode } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Palette } from "../theme";

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
        latest.current.paint(ctx, size, colours);
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
  }, [palette]);
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
