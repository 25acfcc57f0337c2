import type { VNode } from "preact";
import { useRef, useState } from "preact/hooks";
import type { Store } from "../store";
import { Details } from "./details";

const LEAST = 72;
const KEY_STEP = 24;

/** Details below the graph: its upper edge is dragged or moved by keys, and it folds to its title. */
export function DetailsPane({ store }: { store: Store }): VNode {
  const [closed, setClosed] = useState(false);
  const [height, setHeight] = useState<number | null>(null);
  const pane = useRef<HTMLDivElement>(null);
  const drag = useRef<{ y: number; height: number } | null>(null);
  const shown = (): number => pane.current!.getBoundingClientRect().height;
  const set = (value: number): void => setHeight(Math.max(LEAST, Math.round(value)));
  return (
    <div
      ref={pane}
      class={`tlr-details-pane${closed ? " is-closed" : ""}`}
      style={closed || height === null ? {} : { height: `${height}px` }}
    >
      {!closed && (
        <div
          class="tlr-splitter"
          role="separator"
          tabIndex={0}
          aria-orientation="horizontal"
          aria-label="Height of the details"
          aria-valuemin={LEAST}
          aria-valuenow={height ?? 0}
          aria-valuetext={height === null ? "a third" : `${height} pixels`}
          title="Drag to change the height"
          onPointerDown={(e) => {
            e.preventDefault();
            e.currentTarget.setPointerCapture(e.pointerId);
            drag.current = { y: e.clientY, height: shown() };
          }}
          onPointerMove={(e) => drag.current && set(drag.current.height - (e.clientY - drag.current.y))}
          onLostPointerCapture={() => {
            drag.current = null;
          }}
          onKeyDown={(e) => {
            if (e.key !== "ArrowUp" && e.key !== "ArrowDown") return;
            e.preventDefault();
            e.stopPropagation();
            set(shown() + (e.key === "ArrowUp" ? KEY_STEP : -KEY_STEP));
          }}
        />
      )}
      <Details store={store} closed={closed} toggle={() => setClosed(!closed)} />
    </div>
  );
}
