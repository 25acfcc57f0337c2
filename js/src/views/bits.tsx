import { type ReadonlySignal, useComputed } from "@preact/signals";
import type { VNode } from "preact";
import { useRef } from "preact/hooks";
import * as format from "../format";
import type { Stop } from "../schemes";
import type { Control } from "./control";
import { insetShadow, useSettled, useStyle } from "./inline";

export interface BitsProps {
  control: ReadonlySignal<Control>;
  /** whether there is nothing to choose for: it keeps its place then, and nobody sees it */
  away?: ReadonlySignal<boolean>;
  label: string | ReadonlySignal<string>;
  /** in pixels */
  width: number | ReadonlySignal<number>;
  tabIndex?: ReadonlySignal<number>;
  begin(): string;
  choose(stop: Stop, gesture: string): void;
  end(): void;
}

/** From an end of the slider to its first or last stop; sheets/bits.css has the same. */
const INSET = 8;

/** A slider over discrete stops, from float16 at the left to the fewest bits at the right. */
export function Bits({ control, away, label, width, tabIndex, begin, choose, end }: BitsProps): VNode {
  const drag = useRef<{ gesture: string; left: number; width: number; at: number } | null>(null);
  const held = useRef<string | null>(null);
  // The same list throughout a drag, so that what depends on it alone is found once.
  const stops = useSettled(() => control.value.stops);
  const most = useComputed(() => stops.value.length - 1);
  const last = useComputed(() => Math.max(1, most.value));
  const disabled = useComputed(() => !stops.value.some((s, i) => i > 0 && s.takers > 0));
  const dots = useComputed(() => dotsOf(stops.value));
  const mixed = useSettled(() => control.value.at < 0);
  const look = useComputed(() => {
    const marks = [
      disabled.value ? " is-disabled" : "",
      mixed.value ? " is-mixed" : "",
      away?.value ? " is-away" : "",
    ];
    return `tlr-bits${marks.join("")}`;
  });
  const place = useComputed(() => (control.value.at >= 0 ? control.value.at : control.value.mean));
  const whole = useComputed(() => (typeof width === "number" ? width : width.value));
  // A shadow and a background are only painted again: widths would ask for layout, and transforms for composing the page.
  const fill = useComputed(() => insetShadow((place.value / last.value) * (whole.value - 2 * INSET)));
  const thumb = useComputed(() => `${((100 * place.value) / last.value).toFixed(2)}% 50%`);
  const length = useComputed(() => `${whole.value}px`);
  const now = useComputed(() => Math.round(place.value));
  const words = useComputed(() => control.value.valueText);
  const role = useComputed(() => (away?.value ? undefined : "slider"));
  const reached = useComputed(() => (disabled.value ? -1 : (tabIndex?.value ?? 0)));

  const nearest = (clientX: number, left: number, width: number, legal: boolean): number => {
    const wanted = ((clientX - left) / Math.max(1, width)) * last.peek();
    let best = -1;
    stops.peek().forEach((stop, i) => {
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
    choose(stops.peek()[index]!, d.gesture);
  };
  const down = (e: PointerEvent): void => {
    if (e.button !== 0 || disabled.peek()) return;
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
    const stop = stops.peek()[nearest(e.clientX, left + INSET, width - 2 * INSET, false)]!;
    el.title = format.plural(stop.nbits, "bit") + (stop.takers === 0 ? `: ${stop.reason}` : "");
    el.toggleAttribute("data-illegal", stop.takers === 0);
  };
  const leave = (e: PointerEvent): void => {
    const el = e.currentTarget as HTMLElement;
    el.removeAttribute("title");
    el.removeAttribute("data-illegal");
  };
  const up = (): void => {
    if (!drag.current) return;
    drag.current = null;
    end();
  };

  const nextLegal = (from: number, step: 1 | -1): number => {
    const { length } = stops.peek();
    for (let i = from + step; i >= 0 && i < length; i += step) if (stops.peek()[i]!.takers > 0) return i;
    return from;
  };
  const key = (e: KeyboardEvent): void => {
    if (disabled.peek() || e.ctrlKey || e.metaKey || e.altKey) return;
    const from = now.peek();
    let to: number;
    if (e.key === "ArrowRight" || e.key === "ArrowUp") to = nextLegal(from, 1);
    else if (e.key === "ArrowLeft" || e.key === "ArrowDown") to = nextLegal(from, -1);
    else if (e.key === "Home") to = nextLegal(-1, 1);
    else if (e.key === "End") to = nextLegal(stops.peek().length, -1);
    else return;
    e.preventDefault();
    e.stopPropagation();
    if (to === control.peek().at) return;
    // A held key is one gesture, like a drag.
    if (!e.repeat || held.current === null) held.current = begin();
    choose(stops.peek()[to]!, held.current);
  };
  const release = (): void => {
    if (held.current === null) return;
    held.current = null;
    end();
  };

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: a slider wherever it is seen
    // biome-ignore lint/a11y/useAriaPropsSupportedByRole: a slider wherever it is seen
    <div
      ref={useStyle("width", length)}
      class={look}
      role={role}
      tabIndex={reached}
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={most}
      aria-valuenow={now}
      aria-valuetext={words}
      aria-disabled={disabled}
      aria-orientation="horizontal"
      onPointerDown={down}
      onPointerMove={move}
      onPointerLeave={leave}
      onPointerUp={up}
      onPointerCancel={up}
      onLostPointerCapture={up}
      onClick={(e) => e.stopPropagation()}
      onDblClick={(e) => e.stopPropagation()}
      onKeyDown={key}
      onKeyUp={release}
      onBlur={release}
    >
      <div class="tlr-bits-line" ref={useStyle("boxShadow", fill)} />
      <div class="tlr-bits-stops" style={dots} />
      <div class="tlr-bits-thumb" ref={useStyle("backgroundPosition", thumb)} />
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
