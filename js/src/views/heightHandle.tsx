import type { VNode } from "preact";
import { useRef } from "preact/hooks";

const KEY_STEP = 24;

interface HeightHandleProps {
  class: string;
  label: string;
  height: number;
  least: number;
  most?: number;
  /** which edge of what it resizes it is: dragging that outwards makes it taller */
  edge: "top" | "bottom";
  change(height: number): void;
}

/** An edge that can be dragged, or moved by keys, to make something taller. */
export function HeightHandle(props: HeightHandleProps): VNode {
  const { label, height, least, most = Number.POSITIVE_INFINITY, edge, change } = props;
  const drag = useRef<{ y: number; height: number } | null>(null);
  const outwards = edge === "bottom" ? 1 : -1;
  const set = (value: number): void => change(Math.min(most, Math.max(least, Math.round(value))));
  return (
    <div
      class={props.class}
      role="separator"
      tabIndex={0}
      aria-orientation="horizontal"
      aria-label={label}
      aria-valuemin={least}
      aria-valuemax={Number.isFinite(most) ? most : undefined}
      aria-valuenow={height}
      title="Drag to change the height"
      onPointerDown={(e) => {
        e.preventDefault();
        e.currentTarget.setPointerCapture(e.pointerId);
        drag.current = { y: e.clientY, height };
      }}
      onPointerMove={(e) =>
        drag.current && set(drag.current.height + outwards * (e.clientY - drag.current.y))
      }
      onLostPointerCapture={() => {
        drag.current = null;
      }}
      onKeyDown={(e) => {
        if (e.key !== "ArrowUp" && e.key !== "ArrowDown") return;
        e.preventDefault();
        e.stopPropagation();
        set(height + (e.key === "ArrowDown" ? KEY_STEP : -KEY_STEP) * outwards);
      }}
    />
  );
}
