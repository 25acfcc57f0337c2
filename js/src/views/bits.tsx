import { type ReadonlySignal, useComputed } from "@preact/signals";
import type { VNode } from "preact";
import { useMemo, useRef } from "preact/hooks";
import type { Stop } from "../schemes";
import type { Control } from "./control";
import { useStyle } from "./inline";

export interface BitsProps {
  control: ReadonlySignal<Control>;
  label: string;
  tabIndex?: number;
  begin(): string;
  choose(stop: Stop, gesture: string): void;
  end(): void;
}

/** From an end of the slider to its first or last stop; sheets/bits.css has the same. */
const INSET = 8;

/** A slider over discrete stops, from float16 at the left to the fewest bits at the right. */
export function Bits({ control, label, tabIndex = 0, begin, choose, end }: BitsProps): VNode {
  // Drawn again when the stops are others: a drag moves the thumb and nothing else.
  const stops = useComputed(() => control.value.stops).value;
  const drag = useRef<{ gesture: string; left: number; width: number; at: number } | null>(null);
  const held = useRef<string | null>(null);
  const last = Math.max(1, stops.length - 1);
  const disabled = !stops.some((s, i) => i > 0 && s.takers > 0);
  const place = useComputed(() => (control.value.at >= 0 ? control.value.at : control.value.mean));
  const look = useComputed(
    () => `tlr-bits${disabled ? " is-disabled" : ""}${control.value.at < 0 ? " is-mixed" : ""}`,
  );
  const fill = useComputed(() => `scaleX(${(place.value / last).toFixed(4)})`);
  const thumb = useComputed(() => `translateX(${((100 * place.value) / last).toFixed(2)}%)`);
  const now = useComputed(() => Math.round(place.value));
  const words = useComputed(() => control.value.valueText);
  const dots = useMemo(() => dotsOf(stops), [stops]);

  const nearest = (clientX: number, left: number, width: number, legal: boolean): number => {
    const wanted = ((clientX - left) / Math.max(1, width)) * last;
    let best = -1;
    stops.forEach((stop, i) => {
      if ((stop.takers > 0 || !legal) && (best < 0 || Math.abs(i - wanted) < Math.abs(best - wanted)))
        best = i;
    });
    return best;
  };
  const moveTo = (clientX: number): void => {
    const d = drag.current!;
    const index = nearest(clientX, d.left, d.width, true);
    if (index < 0 || index === d.at) return;
    d.at = index;
    choose(stops[index]!, d.gesture);
  };
  const down = (e: PointerEvent): void => {
    if (e.button !== 0 || disabled) return;
    const el = e.currentTarget as HTMLElement;
    e.preventDefault();
    e.stopPropagation();
    el.focus({ preventScroll: true });
    el.setPointerCapture(e.pointerId);
    const { left, width } = el.getBoundingClientRect();
    const { at } = control.peek();
    drag.current = { gesture: begin(), left: left + INSET, width: width - 2 * INSET, at };
    moveTo(e.clientX);
  };
  const move = (e: PointerEvent): void => {
    if (drag.current) moveTo(e.clientX);
    else tell(e);
  };
  /** What the stop under the pointer is, and why it cannot be had. */
  const tell = (e: PointerEvent): void => {
    const el = e.currentTarget as HTMLElement;
    const { left, width } = el.getBoundingClientRect();
    const stop = stops[nearest(e.clientX, left + INSET, width - 2 * INSET, false)]!;
    el.title = stop.takers === 0 ? `${stop.nbits} bits: ${stop.reason}` : `${stop.nbits} bits`;
    el.toggleAttribute("data-illegal", stop.takers === 0);
  };
  const up = (): void => {
    if (!drag.current) return;
    drag.current = null;
    end();
  };

  const nextLegal = (from: number, step: 1 | -1): number => {
    for (let i = from + step; i >= 0 && i < stops.length; i += step) if (stops[i]!.takers > 0) return i;
    return from;
  };
  const key = (e: KeyboardEvent): void => {
    if (disabled || e.ctrlKey || e.metaKey || e.altKey) return;
    const from = now.peek();
    let to: number;
    if (e.key === "ArrowRight" || e.key === "ArrowUp") to = nextLegal(from, 1);
    else if (e.key === "ArrowLeft" || e.key === "ArrowDown") to = nextLegal(from, -1);
    else if (e.key === "Home") to = nextLegal(-1, 1);
    else if (e.key === "End") to = nextLegal(stops.length, -1);
    else return;
    e.preventDefault();
    e.stopPropagation();
    if (to === control.peek().at) return;
    // A held key is one gesture, like a drag.
    if (!e.repeat || held.current === null) held.current = begin();
    choose(stops[to]!, held.current);
  };
  const release = (): void => {
    if (held.current === null) return;
    held.current = null;
    end();
  };

  return (
    <div
      class={look}
      role="slider"
      tabIndex={disabled ? -1 : tabIndex}
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={stops.length - 1}
      aria-valuenow={now}
      aria-valuetext={words}
      aria-disabled={disabled}
      aria-orientation="horizontal"
      onPointerDown={down}
      onPointerMove={move}
      onPointerUp={up}
      onPointerCancel={up}
      onLostPointerCapture={up}
      onClick={(e) => e.stopPropagation()}
      onDblClick={(e) => e.stopPropagation()}
      onKeyDown={key}
      onKeyUp={release}
      onBlur={release}
    >
      <div class="tlr-bits-fill" ref={useStyle("transform", fill)} />
      <div class="tlr-bits-stops" style={dots} />
      <div class="tlr-bits-at" ref={useStyle("transform", thumb)}>
        <div class="tlr-thumb" />
      </div>
    </div>
  );
}

/** A dot for each stop; a ring for what no weight can take. */
function dotsOf(stops: readonly Stop[]): string {
  const images = stops.map(({ takers }) => (takers > 0 ? "var(--tlr-dot)" : "var(--tlr-ring)"));
  const last = Math.max(1, stops.length - 1);
  const places = stops.map((_, i) => `${((100 * i) / last).toFixed(2)}%`);
  return `background-image:${images.join()};background-position:${places.join()}`;
}
