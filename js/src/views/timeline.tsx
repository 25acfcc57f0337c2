import { type Signal, useSignal, useSignalEffect } from "@preact/signals";
import type { VNode } from "preact";
import { useCallback, useMemo, useRef } from "preact/hooks";
import { ticks } from "../charts/canvas";
import {
  eachColumn,
  levelsToShow,
  moduleRuns,
  opAt,
  type Run,
  type Span,
  shifted,
  startTimes,
  zoomed,
} from "../charts/timeline";
import { BOUNDS } from "../estimate";
import { fitText } from "../fitText";
import * as format from "../format";
import { zoomBy } from "../keys";
import { measuredOp } from "../measured";
import { largestOps } from "../opValues";
import type { Store } from "../store";
import { boundColor, type Palette, rampColor } from "../theme";
import { Chart, ChartReader, type ChartSize, within } from "./chart";

export type TimelineColour = "size" | "bound";

interface TimelineProps {
  store: Store;
  palette: Signal<Palette | null>;
  colour: TimelineColour;
}

const EDGE = 12;
const STRIP = 15;
const AXIS = 15;
const STRIP_ROOM = 74;
const LONGEST = 5;
const REST_MS = 300;
const ZOOM_STEP = 1.6;
const DRAG_SLACK = 4;

/** Ops in the order they run, each as wide as its time, under the modules that they are of. */
export function Timeline({ store, palette, colour }: TimelineProps): VNode {
  const program = store.program.value;
  const levels = useMemo(() => moduleRuns(program), [program]);
  const starts = useMemo(() => new Float64Array(program.ops.count + 1), [program]);
  /** null shows everything */
  const zoom = useSignal<Span | null>(null);
  const band = useSignal<{ from: number; to: number } | null>(null);
  const focus = useSignal(0);
  const width = useRef(1);
  const drag = useRef<{ from: number; at: number; moved: boolean } | null>(null);

  const kept = useRef<{ key: string; levels: Run[][]; strips: Run[][] }>({ key: "", levels, strips: [] });
  const costs = store.costs.value;
  const loaded = useMemo(
    () => ({ ms: sum(store.prices.loaded.opMs), largest: largest(store.prices.loaded.opBytes) }),
    [store, costs],
  );
  // As loaded or as it is now, whichever takes longer: what a plan saves is the room that is left.
  const whole = (): number => Math.max(starts[starts.length - 1]!, loaded.ms);
  const shown = (): Span => zoom.peek() ?? { from: 0, to: whole() };
  const timeAt = (x: number): number => {
    const { from, to } = shown();
    return from + ((x - EDGE) / (width.current - 2 * EDGE)) * (to - from);
  };

  const paint = useCallback(
    (ctx: CanvasRenderingContext2D, size: ChartSize, colours: Palette) => {
      store.prices.calm.value;
      store.measured.value;
      const { live } = store.prices;
      startTimes(timesOf(store), starts);
      width.current = size.width;
      const span = zoom.value ?? { from: 0, to: whole() };
      if (!(span.to > span.from)) return;
      const scale = (size.width - 2 * EDGE) / (span.to - span.from);
      const x = (op: number): number => EDGE + (starts[op]! - span.from) * scale;
      const first = Math.max(0, opAt(starts, span.from));
      const last = opAt(starts, span.to);
      const end = last < 0 ? program.ops.count : last + 1;
      ctx.save();
      ctx.beginPath();
      ctx.rect(EDGE - 1, 0, size.width - 2 * EDGE + 2, size.height);
      ctx.clip();
      const most = Math.max(2, (size.width - 2 * EDGE) / STRIP_ROOM);
      const key = `${first} ${end} ${most}`;
      // The same while one drags a slider and sees all of it.
      if (kept.current.key !== key || kept.current.levels !== levels)
        kept.current = { key, levels, strips: levelsToShow(levels, first, end, most) };
      const { strips } = kept.current;
      const rows = size.height < 84 ? strips.slice(-1) : strips;
      rows.forEach((runs, row) => {
        drawStrip(ctx, colours, store, runs, row === 0 ? null : rows[row - 1]!, 5 + row * (STRIP + 2), x);
      });
      const top = 5 + rows.length * (STRIP + 2) + 1;
      const bottom = size.height - AXIS;
      const fill = (value: number): string =>
        colour === "bound"
          ? boundColor(colours.dark, value)
          : rampColor(colours.dark, Math.sqrt(loaded.largest > 0 ? value / loaded.largest : 0));
      const shows = colour === "bound" ? live.bound : live.opBytes;
      eachColumn(x, [first, end], live.opBytes, shows, (left, room, value) => {
        ctx.fillStyle = fill(value);
        ctx.fillRect(left, top, room, bottom - top);
      });
      const { has } = store.selection.value;
      ctx.strokeStyle = ctx.fillStyle = colours.accent;
      ctx.lineWidth = 2;
      for (const op of has) {
        const [left, room] = [x(op), x(op + 1) - x(op)];
        if (left > size.width || left + room < 0) continue;
        if (room >= 6) ctx.strokeRect(left, top + 1, room - 1, bottom - top - 2);
        else ctx.fillRect(left, bottom - 4, Math.max(1.5, room), 4);
      }
      const hovered = store.hover.value;
      if (hovered && hovered.op >= 0) {
        const room = Math.max(2, x(hovered.op + 1) - x(hovered.op));
        ctx.strokeStyle = colours.text;
        ctx.lineWidth = 1.5;
        ctx.strokeRect(x(hovered.op), top - 0.5, room - 1, bottom - top + 1);
      }
      const banded = band.value;
      if (banded) {
        const [a, b] = [banded.from, banded.to].sort((m, n) => m - n) as [number, number];
        ctx.globalAlpha = 0.16;
        ctx.fillStyle = colours.accent;
        ctx.fillRect(EDGE + (a - span.from) * scale, top, (b - a) * scale, bottom - top);
        ctx.globalAlpha = 1;
      }
      ctx.restore();
      drawAxis(ctx, colours, span, size, scale);
    },
    [store, program, levels, starts, loaded, colour, zoom, band],
  );

  const reveal = (op: number): void => {
    const span = zoom.peek();
    if (!span) return;
    const by = starts[op]! < span.from ? starts[op]! - span.from : Math.max(0, starts[op + 1]! - span.to);
    if (by !== 0) zoom.value = shifted(span, by, whole());
  };
  const zoomAbout = (factor: number, about: number): void => {
    const next = zoomed(shown(), factor, about, whole());
    zoom.value = next.to - next.from >= whole() * 0.999 ? null : next;
  };
  const choose = (op: number, e: { shiftKey: boolean; ctrlKey: boolean; metaKey: boolean }): void => {
    if (op < 0) store.select([], "outside");
    else if (e.ctrlKey || e.metaKey || e.shiftKey) store.toggle([op], "outside");
    else store.select([op], "outside");
  };
  const press = (e: KeyboardEvent, op: number): boolean => {
    const middle = (starts[op]! + starts[op + 1]!) / 2;
    const factor = zoomBy(e, ZOOM_STEP);
    if (factor === 0) zoom.value = null;
    else if (factor) zoomAbout(factor, middle);
    else if (e.key === "Enter" || e.key === " ") choose(op, e);
    else return false;
    return true;
  };
  const visit = (op: number): void => {
    if (op >= 0) reveal(op);
    store.hoverOp(op);
  };

  return (
    <Chart
      palette={palette}
      test="timeline"
      paint={paint}
      wheel={(e) => {
        const sideways = Math.abs(e.deltaX) > Math.abs(e.deltaY);
        // Only with ctrl or ⌘, or sideways, so that the page still scrolls.
        if (!sideways && !e.ctrlKey && !e.metaKey) return;
        if (sideways && !zoom.peek()) return;
        e.preventDefault();
        const { from, to } = shown();
        if (sideways) zoom.value = shifted({ from, to }, (e.deltaX / width.current) * (to - from), whole());
        else zoomAbout(Math.exp(-e.deltaY * 0.002), timeAt(within(e).x));
      }}
      onPointerDown={(e) => {
        if (e.button !== 0) return;
        e.currentTarget.setPointerCapture(e.pointerId);
        const at = within(e).x;
        drag.current = { from: timeAt(at), at, moved: false };
      }}
      onPointerMove={(e) => {
        const { x } = within(e);
        const d = drag.current;
        if (d && (d.moved || Math.abs(x - d.at) >= DRAG_SLACK)) {
          d.moved = true;
          band.value = { from: d.from, to: timeAt(x) };
          return;
        }
        const op = opAt(starts, timeAt(x));
        store.hoverOp(op);
      }}
      onPointerUp={(e) => {
        const d = drag.current;
        const banded = band.peek();
        drag.current = null;
        band.value = null;
        if (!d) return;
        if (!d.moved || !banded) {
          const op = opAt(starts, timeAt(within(e).x));
          if (op >= 0) focus.value = op;
          choose(op, e);
          return;
        }
        const [from, to] = [Math.min(banded.from, banded.to), Math.max(banded.from, banded.to)];
        const ops: number[] = [];
        for (let op = 0; op < program.ops.count; op++)
          if (starts[op + 1]! > from && starts[op]! < to) ops.push(op);
        store.select(
          e.shiftKey || e.ctrlKey || e.metaKey ? [...store.selection.peek().ops, ...ops] : ops,
          "outside",
        );
      }}
      onPointerCancel={() => {
        drag.current = null;
        band.value = null;
      }}
      onPointerLeave={() => !drag.current && store.hoverOp(-1)}
    >
      <ChartReader
        label="Timeline: op"
        count={program.ops.count}
        focus={focus}
        describe={(op) => describeOp(store, op)}
        press={press}
        visit={visit}
      >
        <Longest store={store} />
      </ChartReader>
    </Chart>
  );
}

function sum(values: Float64Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function largest(values: Float64Array): number {
  let most = 0;
  for (const value of values) if (value > most) most = value;
  return most;
}

/** Measured where it is, estimated elsewhere. */
function timesOf(store: Store): ArrayLike<number> {
  const { opMs } = store.prices.live;
  return store.measured.value ? opMs.map((ms, op) => measuredOp(store, op)?.ms ?? ms) : opMs;
}

/** Name, time, share and bound of an op, in words. */
export function describeOp(store: Store, op: number): string {
  const { program } = store;
  const { live, calm } = store.prices;
  const measured = measuredOp(store, op);
  const ms = measured?.ms ?? live.opMs[op]!;
  const sign = measured ? format.MEASURED : format.ABOUT;
  return [
    program.value.ops.name[op]!,
    program.value.ops.opType[op]!,
    `${sign}${format.milliseconds(ms)}${format.THIN}ms, ${format.share(ms, calm.value.latencyMs)}`,
    `bound by ${BOUNDS[live.bound[op]!]!}`,
    ...(live.opBytes[op]! > 0 ? [format.bytes(live.opBytes[op]!)] : []),
  ].join(" · ");
}

/** Said once things are at rest: nobody listens while a slider moves. */
function Longest({ store }: { store: Store }): VNode {
  const text = useSignal("");
  useSignalEffect(() => {
    store.prices.calm.value;
    const timer = setTimeout(() => {
      text.value = longest(store);
    }, REST_MS);
    return () => clearTimeout(timer);
  });
  return <span class="tlr-sr">{text}</span>;
}

function longest(store: Store): string {
  const first = largestOps(store.prices.live.opMs, LONGEST);
  const total = format.milliseconds(store.prices.calm.peek().latencyMs);
  return `All ops take about ${total} ms. Longest: ${first.map((op) => describeOp(store, op)).join("; ")}.`;
}

function drawStrip(
  ctx: CanvasRenderingContext2D,
  colours: Palette,
  store: Store,
  runs: readonly Run[],
  outer: readonly Run[] | null,
  top: number,
  x: (op: number) => number,
): void {
  const { path } = store.program.peek().modules;
  const hovered = store.hover.value?.modules;
  ctx.font = `10px ${colours.font}`;
  ctx.textBaseline = "middle";
  ctx.lineWidth = 1;
  for (const { module, first, end } of runs) {
    const name = path[module] ?? "";
    const around = outer?.find((run) => run.first <= first && run.end >= end);
    // An op of the outer module itself has no module at this level.
    if (name === "" || around?.module === module) continue;
    const [left, room] = [x(first), x(end) - x(first) - 1];
    if (room < 1) continue;
    ctx.fillStyle = colours.surface;
    ctx.strokeStyle = hovered?.includes(module) ? colours.accent : colours.border;
    ctx.beginPath();
    ctx.roundRect(left + 0.5, top + 0.5, Math.max(1, room), STRIP - 1, Math.min(2, room / 2));
    ctx.fill();
    ctx.stroke();
    const prefix = around ? `${path[around.module] ?? ""}.` : "";
    const label = prefix.length > 1 && name.startsWith(prefix) ? name.slice(prefix.length) : name;
    const visible = Math.max(left, EDGE);
    const text = fitText(ctx, label, left + room - visible - 8);
    ctx.fillStyle = colours.muted;
    if (text) ctx.fillText(text, visible + 5, top + STRIP / 2 + 0.5);
  }
}

function drawAxis(
  ctx: CanvasRenderingContext2D,
  colours: Palette,
  span: Span,
  size: ChartSize,
  scale: number,
): void {
  ctx.font = `10px ${colours.font}`;
  ctx.textBaseline = "alphabetic";
  ctx.fillStyle = colours.muted;
  ctx.textAlign = "center";
  for (const tick of ticks(span.from, span.to, size.width / 140)) {
    const x = EDGE + (tick - span.from) * scale;
    if (x < EDGE + 10 || x > size.width - EDGE - 24) continue;
    ctx.fillText(format.digits(tick, 2), x, size.height - 4);
  }
  ctx.textAlign = "right";
  ctx.fillText("ms", size.width - EDGE, size.height - 4);
  ctx.textAlign = "left";
}
