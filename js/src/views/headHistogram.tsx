import type { VNode } from "preact";
import { useMemo, useRef } from "preact/hooks";
import { rangeText, type TableColumn, written } from "../columns";
import { type Bins, countsOf, edgesAt, type Range, rangeBetween } from "../histogram";

const WIDTH = 100;
const HEIGHT = 16;

interface HeadHistogramProps {
  column: TableColumn;
  bins: Bins;
  /** ops that are shown: their part of each bar stands out */
  shown: Int32Array;
  range: Range | undefined;
  change(range: Range | null): void;
}

/** How a column's values are spread, and the range that the table is filtered by: drag over it, or move its thumbs. */
export function HeadHistogram({ column, bins, shown, range, change }: HeadHistogramProps): VNode {
  const box = useRef<HTMLDivElement>(null);
  const drag = useRef<{ from: number; moved: boolean; x: number } | null>(null);
  const last = bins.edges.length - 1;
  const [from, to] = range ? edgesAt(bins, range) : [0, last];
  const most = useMemo(() => bins.counts.reduce((a, b) => Math.max(a, b), 1), [bins]);
  const all = useMemo(() => path(bins.counts, most), [bins, most]);
  const some = useMemo(() => path(countsOf(bins, shown), most), [bins, shown, most]);
  const set = (a: number, b: number): void => change(rangeBetween(bins, Math.min(a, b), Math.max(a, b)));

  const place = (clientX: number): number => {
    const { left, width } = box.current!.getBoundingClientRect();
    return Math.min(last, Math.max(0, ((clientX - left) / Math.max(1, width)) * last));
  };
  const move = (clientX: number): void => {
    const held = drag.current!;
    if (Math.abs(clientX - held.x) > 2) held.moved = true;
    if (!held.moved) return;
    const at = place(clientX);
    // Whole bars, that under the pointer and that where it went down among them.
    if (at >= held.from) set(Math.floor(held.from), Math.max(Math.ceil(at), Math.floor(held.from) + 1));
    else set(Math.floor(at), Math.max(Math.ceil(held.from), Math.floor(at) + 1));
  };
  const thumb = (which: 0 | 1): VNode => {
    const at = which === 0 ? from : to;
    const [least, greatest] = which === 0 ? [0, to - 1] : [from + 1, last];
    const go = (next: number): void => {
      const edge = Math.min(greatest, Math.max(least, next));
      if (which === 0) set(edge, to);
      else set(from, edge);
    };
    return (
      <div
        class="tlr-hist-thumb"
        role="slider"
        tabIndex={0}
        aria-label={`${which === 0 ? "Least" : "Most"} ${column.title} shown`}
        aria-valuemin={0}
        aria-valuemax={last}
        aria-valuenow={at}
        aria-valuetext={edgeText(column, bins, at, which)}
        style={{ left: `${(at / last) * 100}%` }}
        onPointerDown={(e) => {
          e.preventDefault();
          e.stopPropagation();
          e.currentTarget.focus({ preventScroll: true });
          e.currentTarget.setPointerCapture(e.pointerId);
          drag.current = { from: at, moved: true, x: e.clientX };
        }}
        onPointerMove={(e) => {
          e.stopPropagation();
          if (drag.current) go(Math.round(place(e.clientX)));
        }}
        onLostPointerCapture={() => {
          drag.current = null;
        }}
        onKeyDown={(e) => {
          const steps: Record<string, number> = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
          if (steps[e.key]) go(at + steps[e.key]!);
          else if (e.key === "Home") go(least);
          else if (e.key === "End") go(greatest);
          else if ((e.key === "Escape" || e.key === "Delete" || e.key === "Backspace") && range) change(null);
          else return;
          e.preventDefault();
          e.stopPropagation();
        }}
      />
    );
  };
  return (
    <div
      ref={box}
      class={`tlr-hist${range ? " is-filtered" : ""}`}
      role="group"
      aria-label={`Filter by ${column.title}`}
      title={[
        `${column.title}: ${written(column.key, bins.edges[0]!)} to ${written(column.key, bins.edges[last]! - (bins.whole ? 1 : 0))}${bins.log ? ", on a logarithmic scale" : ""}`,
        range
          ? `shown: ${rangeText(column.key, bins, range)}; click to show all`
          : "Drag to show only a range.",
      ].join("\n")}
      onPointerDown={(e) => {
        if (e.button !== 0) return;
        e.preventDefault();
        e.currentTarget.setPointerCapture(e.pointerId);
        drag.current = { from: place(e.clientX), moved: false, x: e.clientX };
      }}
      onPointerMove={(e) => drag.current && move(e.clientX)}
      onPointerUp={() => {
        if (drag.current && !drag.current.moved && range) change(null);
        drag.current = null;
      }}
      onPointerCancel={() => {
        drag.current = null;
      }}
    >
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
        <path class="tlr-hist-all" d={all} />
        <path class="tlr-hist-some" d={some} />
      </svg>
      {range && (
        <div
          class="tlr-hist-band"
          style={{ left: `${(from / last) * 100}%`, right: `${100 - (to / last) * 100}%` }}
        />
      )}
      {thumb(0)}
      {thumb(1)}
    </div>
  );
}

function edgeText(column: TableColumn, bins: Bins, at: number, which: 0 | 1): string {
  const value = bins.edges[at]!;
  if (which === 0) return `at least ${written(column.key, value)}`;
  if (bins.whole) return `at most ${written(column.key, value - 1)}`;
  return `${at === bins.edges.length - 1 ? "at most" : "below"} ${written(column.key, value)}`;
}

/** A few ops beside thousands still have a bar that is seen. */
function path(counts: Uint32Array, most: number): string {
  const width = WIDTH / counts.length;
  let d = "";
  counts.forEach((count, i) => {
    if (count === 0) return;
    const height = Math.max(1.5, (HEIGHT * count) / most);
    d += `M${(i * width).toFixed(2)} ${HEIGHT}v${(-height).toFixed(2)}h${(width * 0.86).toFixed(2)}V${HEIGHT}z`;
  });
  return d;
}
