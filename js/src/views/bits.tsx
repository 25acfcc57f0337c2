import type { VNode } from "preact";
import { useMemo, useRef } from "preact/hooks";
import type { Stop } from "../schemes";

export interface BitsProps {
  stops: Stop[];
  /** index of the current stop, -1 when the weights differ */
  at: number;
  /** where to show the thumb when they differ: a position between stops */
  mean: number;
  label: string;
  valueText: string;
  tabIndex?: number;
  begin(): string;
  choose(stop: Stop, gesture: string): void;
  end(): void;
}

const INSET = 8;

/** A slider over discrete stops, from float16 at the left to the fewest bits at the right. */
export function Bits(props: BitsProps): VNode {
  const { stops, at, mean, label, valueText, tabIndex = 0 } = props;
  const drag = useRef<{ gesture: string; left: number; width: number; at: number } | null>(null);
  const held = useRef<string | null>(null);
  const last = Math.max(1, stops.length - 1);
  const disabled = !stops.some((s, i) => i > 0 && s.takers > 0);
  const position = (at >= 0 ? at : mean) / last;

  const nearest = (clientX: number): number => {
    const d = drag.current!;
    const wanted = ((clientX - d.left) / Math.max(1, d.width)) * last;
    let best = d.at;
    let distance = Number.POSITIVE_INFINITY;
    stops.forEach((stop, i) => {
      if (stop.takers > 0 && Math.abs(i - wanted) < distance) {
        best = i;
        distance = Math.abs(i - wanted);
      }
    });
    return best;
  };
  const moveTo = (index: number): void => {
    const d = drag.current!;
    if (index === d.at) return;
    d.at = index;
    props.choose(stops[index]!, d.gesture);
  };
  const down = (e: PointerEvent): void => {
    if (e.button !== 0 || disabled) return;
    const el = e.currentTarget as HTMLElement;
    e.preventDefault();
    e.stopPropagation();
    el.focus({ preventScroll: true });
    el.setPointerCapture(e.pointerId);
    const box = el.getBoundingClientRect();
    drag.current = { gesture: props.begin(), left: box.left + INSET, width: box.width - 2 * INSET, at };
    moveTo(nearest(e.clientX));
  };
  const up = (): void => {
    if (!drag.current) return;
    drag.current = null;
    props.end();
  };

  const nextLegal = (from: number, step: 1 | -1): number => {
    for (let i = from + step; i >= 0 && i < stops.length; i += step) if (stops[i]!.takers > 0) return i;
    return from;
  };
  const key = (e: KeyboardEvent): void => {
    if (disabled || e.ctrlKey || e.metaKey || e.altKey) return;
    const from = at >= 0 ? at : Math.round(mean);
    let to: number;
    if (e.key === "ArrowRight" || e.key === "ArrowUp") to = nextLegal(from, 1);
    else if (e.key === "ArrowLeft" || e.key === "ArrowDown") to = nextLegal(from, -1);
    else if (e.key === "Home") to = nextLegal(-1, 1);
    else if (e.key === "End") to = nextLegal(stops.length, -1);
    else return;
    e.preventDefault();
    e.stopPropagation();
    if (to === at) return;
    // A held key is one gesture, like a drag.
    if (!e.repeat || held.current === null) held.current = props.begin();
    props.choose(stops[to]!, held.current);
  };
  const release = (): void => {
    if (held.current === null) return;
    held.current = null;
    props.end();
  };

  // The same elements while the stops are: a drag then moves the thumb and nothing else.
  const dots = useMemo(
    () =>
      stops.map((stop, i) => (
        <span
          key={stop.scheme}
          class={`tlr-stop${stop.takers === 0 ? " is-illegal" : ""}`}
          style={{ left: `${(i / last) * 100}%` }}
          title={stop.takers === 0 ? `${stop.nbits} bits: ${stop.reason}` : `${stop.nbits} bits`}
        />
      )),
    [stops.map((s) => `${s.scheme} ${s.takers === 0 ? s.reason : ""}`).join("\n")],
  );

  return (
    <div
      class={`tlr-bits${disabled ? " is-disabled" : ""}${at < 0 ? " is-mixed" : ""}`}
      role="slider"
      tabIndex={disabled ? -1 : tabIndex}
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={stops.length - 1}
      aria-valuenow={Math.round(at >= 0 ? at : mean)}
      aria-valuetext={valueText}
      aria-disabled={disabled}
      aria-orientation="horizontal"
      onPointerDown={down}
      onPointerMove={(e) => drag.current && moveTo(nearest(e.clientX))}
      onPointerUp={up}
      onPointerCancel={up}
      onLostPointerCapture={up}
      onClick={(e) => e.stopPropagation()}
      onDblClick={(e) => e.stopPropagation()}
      onKeyDown={key}
      onKeyUp={release}
      onBlur={release}
    >
      <div class="tlr-bits-track">
        <div class="tlr-bits-fill" style={{ transform: `scaleX(${position})` }} />
        {dots}
        <div class="tlr-bits-at" style={{ transform: `translateX(${position * 100}%)` }}>
          <div class="tlr-thumb" />
        </div>
      </div>
    </div>
  );
}
