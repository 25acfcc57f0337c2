import { type Signal, useSignal } from "@preact/signals";
import type { VNode } from "preact";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type Along, decodeFront, type Front, type FrontPoint } from "../charts/front";
import { areaOf, axisFor, drawAxes, EMPTY, nearest, type Places, placed } from "../charts/points";
import { planErrorOf, weightErrors } from "../charts/weights";
import { type Errors, planLoss } from "../errors";
import type { Totals } from "../estimate";
import * as format from "../format";
import { text } from "../protocol";
import type { Progress } from "../requests";
import type { Store } from "../store";
import type { Palette } from "../theme";
import { Chart, ChartReader, type ChartSize, within } from "./chart";

/** A front, and what it was found for. */
export interface KeptFront {
  of: string;
  errors: Errors | null;
  front: Front;
}

interface ParetoProps {
  store: Store;
  palette: Signal<Palette | null>;
  note: Signal<string>;
  /** kept while other tabs are shown */
  front: Signal<KeptFront | null>;
  along: Along;
}

const AMOUNTS: Record<Along, { title: string; of(totals: Totals): number; say(value: number): string }> = {
  bits: {
    title: "bits a weight",
    of: (t) => t.bitsPerWeight,
    say: (v) => format.inBits(v, format.THIN),
  },
  size: { title: "bytes of the package", of: (t) => t.sizeBytes, say: format.bytes },
  latency: {
    title: "latency, estimated",
    of: (t) => t.latencyMs,
    say: (v) => `${format.ABOUT}${format.milliseconds(v)}${format.THIN}ms`,
  },
};

/** The best plans over all budgets beside uniform ones and the current one; a press takes a plan. */
export function ParetoTab({ store, palette, note, front, along }: ParetoProps): VNode {
  const costs = store.costs.value;
  const errors = store.errors.value;
  const [failed, setFailed] = useState("");
  const [progress, setProgress] = useState<Progress | null>(null);
  const of = `${costs.device} ${costs.schemes.length} ${along}`;
  const kept = front.value?.of === of && front.value.errors === errors ? front.value.front : null;
  useEffect(() => {
    if (kept) return;
    let wanted = true;
    setFailed("");
    void store.requests.ask("pareto", { along }, setProgress).then((raw) => {
      if (!wanted) return;
      setProgress(null);
      if (raw.ok) front.value = { of, errors, front: decodeFront(raw) };
      else setFailed(text(raw.message));
    });
    return () => {
      wanted = false;
    };
  }, [store, of, along, errors, front]);
  if (kept) return <Plot store={store} palette={palette} note={note} front={kept} />;
  return (
    <div class="tlr-chart">
      <p class={`tlr-chart-note${failed ? " tlr-error" : ""}`} role={failed ? "alert" : "status"}>
        {failed || (progress ? `${progress.stage}…` : "waiting for the kernel…")}
      </p>
    </div>
  );
}

function Plot({
  store,
  palette,
  note,
  front,
}: Omit<ParetoProps, "along" | "front"> & { front: Front }): VNode {
  const costs = store.costs.value;
  const errors = store.errors.value;
  const found = useMemo(() => weightErrors(costs, errors), [costs, errors]);
  const places = useRef<Places>(EMPTY);
  const focus = useSignal(0);
  const hovered = useSignal(-1);
  const amount = AMOUNTS[front.along];
  const { points } = front;

  const describe = useCallback(
    (p: number): string => {
      const point = points[p];
      if (!point) return "";
      return `${nameOf(point)}: ${amount.say(point.amount)} · error ${format.digits(point.error)} (${front.grade})`;
    },
    [points, amount, front],
  );
  const hover = (p: number): void => {
    hovered.value = p;
    note.value = p < 0 ? "" : `${describe(p)} · press to take it`;
  };
  const take = (p: number): void => {
    const point = points[p];
    if (!point) return;
    const label = point.uniform || `best plan for ${amount.say(point.amount)}`;
    store.edits.take({ scheme: point.scheme, int8: store.edits.history.peek().int8 }, label);
  };

  const paint = useCallback(
    (ctx: CanvasRenderingContext2D, size: ChartSize, colours: Palette) => {
      const now = [
        amount.of(store.prices.calm.value),
        errors
          ? planLoss(errors, store.composed.value, store.edits.history.peek().scheme).value
          : planErrorOf(found, store.edits.history.peek().scheme),
      ] as const;
      const area = areaOf(size);
      if (area.height < 20) return;
      const axes = [
        axisFor(
          [...points.map((p) => p.amount), now[0]],
          front.along !== "latency",
          amount.title,
          amount.say,
        ),
        axisFor(
          [...points.map((p) => p.error), now[1]],
          true,
          front.grade === "weight" ? "error of the weights" : `error, ${front.grade}`,
          (v) => String(Number(v.toPrecision(1))).replace("-", format.MINUS),
        ),
      ] as const;
      drawAxes(ctx, colours, area, axes);
      places.current = placed(area, axes, points.length, (p) => [points[p]!.amount, points[p]!.error]);
      const { x, y } = places.current;
      ctx.strokeStyle = colours.accent;
      ctx.lineWidth = 1.5;
      ctx.beginPath();
      points.forEach((point, p) => {
        if (point.uniform === "") ctx.lineTo(x[p]!, y[p]!);
      });
      ctx.stroke();
      points.forEach((point, p) => {
        ctx.beginPath();
        if (point.uniform === "") ctx.arc(x[p]!, y[p]!, 3, 0, 2 * Math.PI);
        else ctx.rect(x[p]! - 3, y[p]! - 3, 6, 6);
        ctx.fillStyle = point.uniform === "" ? colours.accent : colours.background;
        ctx.strokeStyle = point.uniform === "" ? colours.accent : colours.muted;
        ctx.lineWidth = 1.2;
        ctx.fill();
        ctx.stroke();
        if (p !== hovered.value) return;
        ctx.beginPath();
        ctx.arc(x[p]!, y[p]!, 6.5, 0, 2 * Math.PI);
        ctx.strokeStyle = colours.text;
        ctx.stroke();
      });
      const here = placed(area, axes, 1, () => now);
      if (Number.isNaN(here.x[0]!)) return;
      ctx.save();
      ctx.translate(here.x[0]!, here.y[0]!);
      ctx.rotate(Math.PI / 4);
      ctx.fillStyle = colours.text;
      ctx.strokeStyle = colours.background;
      ctx.lineWidth = 1.5;
      ctx.fillRect(-4.5, -4.5, 9, 9);
      ctx.strokeRect(-4.5, -4.5, 9, 9);
      ctx.restore();
    },
    [store, errors, found, points, amount, front, hovered],
  );
  return (
    <Chart
      palette={palette}
      test="pareto"
      paint={paint}
      onPointerMove={(e) => {
        const p = nearest(places.current, within(e));
        e.currentTarget.style.cursor = p < 0 ? "" : "pointer";
        hover(p);
      }}
      onPointerLeave={() => hover(-1)}
      onPointerUp={(e) => take(nearest(places.current, within(e)))}
    >
      <ChartReader
        label="Pareto front: plan"
        count={points.length}
        focus={focus}
        describe={describe}
        press={(e, p) => {
          if (e.key !== "Enter" && e.key !== " ") return false;
          take(p);
          return true;
        }}
        visit={hover}
      />
    </Chart>
  );
}

const nameOf = (point: FrontPoint): string => (point.uniform ? `${point.uniform} everywhere` : "best plan");
