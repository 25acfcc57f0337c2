import { type Signal, useSignal } from "@preact/signals";
import type { VNode } from "preact";
import { useCallback, useMemo, useRef } from "preact/hooks";
import {
  areaOf,
  axisFor,
  drawAxes,
  EMPTY,
  nearest,
  type Places,
  placed,
  pointsInside,
  together,
} from "../charts/points";
import { readersOf, weightErrors } from "../charts/weights";
import * as format from "../format";
import type { Store } from "../store";
import type { Palette } from "../theme";
import { Chart, ChartReader, type ChartSize, within } from "./chart";

interface ScatterProps {
  store: Store;
  palette: Signal<Palette | null>;
  note: Signal<string>;
}

const DRAG_SLACK = 4;

/** Every weight by its bytes and its error, both logarithmic: decibels, or the estimated error of the outputs. */
export function Scatter({ store, palette, note }: ScatterProps): VNode {
  const costs = store.costs.value;
  const errors = store.errors.value;
  const readers = useMemo(() => readersOf(costs), [costs]);
  const found = useMemo(() => weightErrors(costs, errors), [costs, errors]);
  const places = useRef<Places>(EMPTY);
  const focus = useSignal(0);
  const hovered = useSignal(-1);
  const band = useSignal<{ a: { x: number; y: number }; b: { x: number; y: number } } | null>(null);
  const drag = useRef<{ x: number; y: number } | null>(null);
  const weights = store.program.value.weights;

  const valuesOf = useCallback(
    (w: number): readonly [number, number] => {
      const s = store.edits.history.peek().scheme[w]!;
      const error = found.of(w, s);
      const bytes = costs.payloadBytes[w * costs.schemes.length + s]!;
      return [bytes, errors ? error : error === 0 ? Number.POSITIVE_INFINITY : -10 * Math.log10(error)];
    },
    [store, costs, errors, found],
  );
  const describe = useCallback(
    (w: number): string => {
      store.prices.calm.value;
      const [bytes, error] = valuesOf(w);
      const said = errors
        ? `${format.ABOUT}${format.digits(error)} ${found.what}`
        : Number.isNaN(error)
          ? "error not known yet"
          : Number.isFinite(error)
            ? `${format.ABOUT}${error.toFixed(1)}${format.THIN}dB`
            : "no error";
      const info = costs.schemes[store.edits.history.peek().scheme[w]!]!;
      return `${weights.name[w]} · ${info.label} · ${format.bytes(bytes)} · ${said}`;
    },
    [store, costs, errors, found, valuesOf, weights],
  );
  const hover = (w: number): void => {
    hovered.value = w;
    const count = w < 0 ? 0 : together(places.current, w);
    note.value = w < 0 ? "" : `${describe(w)}${count > 1 ? ` · ${format.grouped(count)} weights here` : ""}`;
    store.hoverOp(readers[w]?.[0] ?? -1);
  };
  const choose = (
    ws: readonly number[],
    e: { shiftKey: boolean; ctrlKey: boolean; metaKey: boolean },
  ): void => {
    const ops = ws.flatMap((w) => readers[w]!);
    if (e.shiftKey || e.ctrlKey || e.metaKey) store.toggle(ops, "outside");
    else store.select(ops, "outside");
  };

  const paint = useCallback(
    (ctx: CanvasRenderingContext2D, size: ChartSize, colours: Palette) => {
      store.prices.calm.value;
      const area = areaOf(size);
      if (area.height < 20) return;
      const values = Array.from({ length: weights.count }, (_, w) => valuesOf(w));
      const axes = [
        axisFor(
          values.map(([bytes]) => bytes),
          true,
          "bytes of the weight",
          format.bytes,
        ),
        errors
          ? axisFor(
              values.map(([, error]) => error),
              true,
              `${found.what}, ${found.grade}`,
              (v) => format.digits(v, 2),
            )
          : axisFor(
              values.map(([, error]) => error),
              false,
              "signal to noise, dB",
              (v) => format.digits(v, 2),
            ),
      ] as const;
      drawAxes(ctx, colours, area, axes);
      places.current = placed(area, axes, weights.count, (w) => values[w]!);
      const { x, y } = places.current;
      if (!values.some(([, error]) => Number.isFinite(error) && error !== 0)) {
        ctx.textAlign = "center";
        const known = values.some(([, error]) => !Number.isNaN(error));
        ctx.fillText(
          known
            ? "No weight has an error under this plan."
            : `Errors of weights: ${store.unknownError.value.short}`,
          area.x + area.width / 2,
          area.y + area.height / 2 - 5,
        );
        ctx.textAlign = "left";
        if (!known) return;
      }
      const { has } = store.selection.value;
      const over = store.hover.value?.op ?? -1;
      for (let w = 0; w < weights.count; w++) {
        if (Number.isNaN(x[w]!)) continue;
        const selected = readers[w]!.some((op) => has.has(op));
        const changed = store.edits.history.peek().scheme[w] !== costs.start[w];
        ctx.beginPath();
        ctx.arc(x[w]!, y[w]!, selected ? 4.5 : 3, 0, 2 * Math.PI);
        ctx.globalAlpha = selected ? 1 : changed ? 0.75 : 0.35;
        ctx.fillStyle = selected || changed ? colours.accent : colours.muted;
        ctx.fill();
        ctx.globalAlpha = 1;
        if (w !== hovered.value && !readers[w]!.includes(over)) continue;
        ctx.lineWidth = 1.5;
        ctx.strokeStyle = colours.text;
        ctx.stroke();
      }
      const drawn = band.value;
      if (!drawn) return;
      ctx.globalAlpha = 0.16;
      ctx.fillStyle = colours.accent;
      ctx.fillRect(drawn.a.x, drawn.a.y, drawn.b.x - drawn.a.x, drawn.b.y - drawn.a.y);
      ctx.globalAlpha = 1;
    },
    [store, costs, errors, found, weights, readers, valuesOf, hovered, band],
  );

  return (
    <Chart
      palette={palette}
      test="scatter"
      paint={paint}
      onPointerDown={(e) => {
        if (e.button !== 0) return;
        e.currentTarget.setPointerCapture(e.pointerId);
        drag.current = within(e);
      }}
      onPointerMove={(e) => {
        const at = within(e);
        const from = drag.current;
        if (from && (band.peek() || Math.hypot(at.x - from.x, at.y - from.y) >= DRAG_SLACK))
          band.value = { a: from, b: at };
        else if (!from) {
          const w = nearest(places.current, at);
          e.currentTarget.style.cursor = w < 0 ? "" : "pointer";
          hover(w);
        }
      }}
      onPointerUp={(e) => {
        const drawn = band.peek();
        const pressed = drag.current;
        drag.current = null;
        band.value = null;
        if (!pressed) return;
        if (drawn) {
          choose(pointsInside(places.current, drawn.a, drawn.b), e);
          return;
        }
        const w = nearest(places.current, within(e));
        if (w >= 0) focus.value = w;
        choose(w < 0 ? [] : [w], e);
      }}
      onPointerCancel={() => {
        drag.current = null;
        band.value = null;
      }}
      onPointerLeave={() => !drag.current && hover(-1)}
    >
      <ChartReader
        label="Size and error: weight"
        count={weights.count}
        focus={focus}
        describe={describe}
        press={(e, w) => {
          if (e.key !== "Enter" && e.key !== " ") return false;
          choose([w], e);
          return true;
        }}
        visit={hover}
      />
    </Chart>
  );
}
