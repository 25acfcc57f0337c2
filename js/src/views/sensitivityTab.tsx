import { type Signal, useComputed, useSignal } from "@preact/signals";
import type { VNode } from "preact";
import { useCallback, useMemo, useRef } from "preact/hooks";
import { type NextStep, nextSteps, readersOf, weightErrors } from "../charts/weights";
import * as format from "../format";
import type { Store } from "../store";
import { type Palette, rampColor } from "../theme";
import { Chart, ChartReader, type ChartSize, within } from "./chart";

interface SensitivityProps {
  store: Store;
  palette: Signal<Palette | null>;
  note: Signal<string>;
}

const EDGE = 12;
const TOP = 20;
const WIDEST = 26;

/** Weights by the error that their next step down would add for each bit that it saves, the most first. */
export function SensitivityTab(props: SensitivityProps): VNode {
  if (props.store.errors.value) return <Ranking {...props} />;
  return (
    <div class="tlr-chart">
      <p class="tlr-chart-note">
        <span>
          Which weights matter to the model's output is found on data:{" "}
          <code>session.error = tnb.sensitivity(model, data)</code>
        </span>
      </p>
    </div>
  );
}

function Ranking({ store, palette, note }: SensitivityProps): VNode {
  const costs = store.costs.value;
  const errors = store.errors.value;
  const readers = useMemo(() => readersOf(costs), [costs]);
  const found = useMemo(() => weightErrors(costs, errors), [costs, errors]);
  const steps = useComputed(() => {
    store.prices.calm.value;
    return nextSteps(costs, found, store.edits.history.peek().scheme);
  });
  const focus = useSignal(0);
  const hovered = useSignal(-1);
  const bar = useRef(1);
  const { name } = store.program.value.weights;

  const describe = useCallback(
    (at: number): string => {
      const step = steps.value[at];
      if (!step) return "";
      const info = costs.schemes[step.scheme]!;
      return `${at + 1}. ${name[step.weight]} · ${info.label} would add ${format.ABOUT}${format.digits(step.error)} (${found.what}) and save ${format.bytes(step.bytes)}`;
    },
    [steps, costs, found, name],
  );
  const hover = (at: number): void => {
    hovered.value = at;
    note.value = at < 0 ? "" : describe(at);
    store.hoverOp(readers[steps.peek()[at]?.weight ?? -1]?.[0] ?? -1);
  };
  const choose = (at: number, e: { shiftKey: boolean; ctrlKey: boolean; metaKey: boolean }): void => {
    const ops = readers[steps.peek()[at]?.weight ?? -1] ?? [];
    if (ops.length > 0 && (e.shiftKey || e.ctrlKey || e.metaKey)) store.toggle(ops, "outside");
    else store.select(ops, "outside");
  };
  const under = (e: MouseEvent): number => {
    const at = Math.floor((within(e).x - EDGE) / bar.current);
    return at >= 0 && at < steps.peek().length ? at : -1;
  };

  const paint = useCallback(
    (ctx: CanvasRenderingContext2D, size: ChartSize, colours: Palette) => {
      const ranked = steps.value;
      const { has } = store.selection.value;
      ctx.font = `10px ${colours.font}`;
      ctx.textBaseline = "top";
      ctx.fillStyle = colours.muted;
      ctx.fillText(
        `${format.plural(ranked.length, "weight")} by the error (${found.what}, ${found.grade}) that one step fewer bits adds for each bit saved; logarithmic`,
        EDGE,
        4,
      );
      bar.current = Math.min(WIDEST, (size.width - 2 * EDGE) / Math.max(1, ranked.length));
      const rates = ranked.map(rate).filter((value) => value > 0);
      const [most, least] = [rates[0] ?? 1, (rates[rates.length - 1] ?? 1) / 2];
      const room = size.height - TOP - 4;
      if (room < 10) return;
      const over = store.hover.value?.op ?? -1;
      ranked.forEach((step, at) => {
        const height =
          rate(step) > 0 ? Math.max(0.04, Math.log(rate(step) / least) / Math.log(most / least)) : 0.02;
        const x = EDGE + at * bar.current;
        const wide = Math.max(0.6, bar.current > 3 ? bar.current - 1 : bar.current);
        const reading = readers[step.weight]!;
        ctx.fillStyle = reading.some((op) => has.has(op))
          ? colours.accent
          : rampColor(colours.dark, 0.25 + 0.4 * height);
        ctx.fillRect(x, TOP + room * (1 - height), wide, room * height);
        if (at !== hovered.value && !reading.includes(over)) return;
        ctx.strokeStyle = colours.text;
        ctx.lineWidth = 1.5;
        ctx.strokeRect(x, TOP + room * (1 - height), wide, room * height);
      });
    },
    [steps, found, readers, store, hovered],
  );
  return (
    <Chart
      palette={palette}
      test="sensitivity"
      paint={paint}
      onPointerMove={(e) => hover(under(e))}
      onPointerLeave={() => hover(-1)}
      onPointerUp={(e) => {
        const at = under(e);
        if (at >= 0) focus.value = at;
        choose(at, e);
      }}
    >
      <ChartReader
        label="Sensitivity: weight"
        count={steps.value.length}
        focus={focus}
        describe={describe}
        press={(e, at) => {
          if (e.key !== "Enter" && e.key !== " ") return false;
          choose(at, e);
          return true;
        }}
        visit={hover}
      />
    </Chart>
  );
}

const rate = (step: NextStep): number => step.error / (8 * step.bytes);
