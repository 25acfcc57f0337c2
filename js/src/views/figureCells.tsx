import { type ReadonlySignal, useComputed } from "@preact/signals";
import type { VNode } from "preact";
import { written } from "../columns";
import * as format from "../format";
import { measuredOp } from "../measured";
import { numberOf } from "../opValues";
import { type Noise, opNoise } from "../sqnr";
import { Bits } from "./bits";
import type { CellProps } from "./cells";
import { chooseStop, useControl } from "./control";
import { useStyle } from "./inline";

interface FigureProps {
  column: string;
  text: ReadonlySignal<string>;
  /** of a bar below the text, now and in the baseline, 0…1 */
  bar?: ReadonlySignal<readonly [now: number, was: number]>;
  /** asked for once the pointer is there: nobody reads it during a drag */
  title(): string;
}

function Figure({ column, text, bar, title }: FigureProps): VNode {
  return (
    <div
      role="gridcell"
      class={`tlr-cell tlr-cell-${column}`}
      onPointerEnter={(e) => {
        e.currentTarget.title = title();
      }}
    >
      {bar && <Bar ends={bar} />}
      {text}
    </div>
  );
}

/** Scaled, not resized: a drag then asks for no layout. */
function Bar({ ends }: { ends: ReadonlySignal<readonly [now: number, was: number]> }): VNode {
  const to = (value: number): string => `scaleX(${Math.min(1, Math.max(0, value)).toFixed(4)})`;
  const now = useComputed(() => to(ends.value[0]));
  const was = useComputed(() => to(ends.value[1] > ends.value[0] * 1.0001 ? ends.value[1] : 0));
  return (
    <>
      <div class="tlr-bar is-was" ref={useStyle("transform", was)} />
      <div class="tlr-bar" ref={useStyle("transform", now)} />
    </>
  );
}

const Empty = ({ column }: { column: string }): VNode => (
  <div role="gridcell" class={`tlr-cell tlr-cell-${column}`} />
);

export function SizeCell({ store, op, most, column }: CellProps): VNode {
  const { prices } = store;
  const values = useComputed(() => {
    prices.totals.value;
    prices.baseline.value;
    return [prices.live.opBytes[op]!, prices.base.opBytes[op]!] as const;
  });
  const text = useComputed(() => format.bytesChange(values.value[1], values.value[0]));
  const bar = useComputed(() => [values.value[0] / most.bytes, values.value[1] / most.bytes] as const);
  const title = (): string => {
    const [now, was] = values.peek();
    return `${format.exactBytes(now)}, exact\n${store.baselineName.peek()}: ${format.exactBytes(was)}\n${format.changeInWords(was, now, "smaller", "larger")}`;
  };
  if (values.peek()[1] === 0) return <Empty column={column} />;
  return <Figure column={column} text={text} bar={bar} title={title} />;
}

/** Of the weights, in decibels; "≈" where tables are clustered. */
export function ErrorCell({ store, op, column }: CellProps): VNode {
  const now = useComputed(() => opNoise(store.costs.value, store.edits.scheme, op));
  const was = useComputed(() => opNoise(store.costs.value, store.baseScheme, op));
  const inWords = (noise: Noise | null): string =>
    noise ? (noise.exact || noise.ratio === 0 ? "" : format.ABOUT) + format.decibels(noise.ratio) : "";
  const text = useComputed(() => {
    const [a, b] = [inWords(was.value), inWords(now.value)];
    return a === b ? b : `${a} ${format.ARROW} ${b}`;
  });
  const title = (): string => {
    const noise = now.peek()!;
    const certainty = noise.exact ? "exact" : "estimated: of our tables; coremltools' may be 0.3 dB worse";
    const known = !Number.isNaN(noise.ratio) && noise.ratio !== 0;
    return `Signal to noise of the weights: ${inWords(noise)}${known ? `, ${certainty}` : ""}\n${store.baselineName.peek()}: ${inWords(was.peek())}\nMore is better. It grades the weights, not the model's output.`;
  };
  if (!now.peek()) return <Empty column={column} />;
  return <Figure column={column} text={text} title={title} />;
}

export function LatencyCell({ store, op, most, column }: CellProps): VNode {
  const { prices } = store;
  const measured = useComputed(() => measuredOp(store, op));
  const values = useComputed(() => {
    prices.totals.value;
    prices.baseline.value;
    return [prices.live.opMs[op]!, prices.base.opMs[op]!] as const;
  });
  const text = useComputed(() => {
    if (measured.value) return format.MEASURED + format.milliseconds(measured.value.ms);
    const [now, was] = values.value.map(format.milliseconds);
    return `${format.ABOUT}${was === now ? now : `${was} ${format.ARROW} ${now}`}`;
  });
  const bar = useComputed(() =>
    measured.value
      ? ([measured.value.ms / most.ms, 0] as const)
      : ([values.value[0] / most.ms, values.value[1] / most.ms] as const),
  );
  const title = (): string => {
    const [now, was] = values.peek();
    const [low, high] = store.costs.peek().interval;
    const estimated = `${format.ABOUT}${format.milliseconds(now)} ms`;
    const found = measured.peek();
    if (found)
      return `${format.milliseconds(found.ms)} ms, measured on ${found.machine}: the median prediction times Core ML's share for the op\nestimated: ${estimated}`;
    return `${estimated}, estimated\n80 % interval ${format.milliseconds(now * low)} – ${format.milliseconds(now * high)} ms\n${store.baselineName.peek()}: ${format.ABOUT}${format.milliseconds(was)} ms`;
  };
  return <Figure column={column} text={text} bar={bar} title={title} />;
}

/** A figure of the op alone, exact ones in full on hover. */
export function NumberCell({ store, op, column }: CellProps): VNode {
  const value = useComputed(() => {
    store.prices.totals.value;
    return numberOf(store, column, op);
  });
  const exact = column === "flops" || column === "elements" || column === "activation_bytes";
  const rough = column === "energy" || column === "latency_share";
  const text = useComputed(() =>
    Number.isNaN(value.value) ? "" : (rough ? format.ABOUT : "") + written(column, value.value),
  );
  return (
    <Figure column={column} text={text} title={() => (exact ? format.grouped(value.peek()) : text.peek())} />
  );
}

export function BitsCell({ store, op, tabIndex, column }: CellProps): VNode {
  const weights = useComputed(() => store.weightsOf([op]));
  const control = useControl(store, weights);
  const editable = useComputed(() => control.value.editable > 0).value;
  const short = useComputed(() => control.value.short);
  const look = useComputed(() => `tlr-bits-value${control.value.at < 0 ? " is-mixed" : ""}`);
  const name = store.program.value.ops.name[op]!;
  if (weights.value.length === 0) return <Empty column={column} />;
  if (!editable) {
    const reason = control.value.stops.find((s) => s.reason !== "")?.reason ?? "stays float16";
    return (
      <div role="gridcell" class={`tlr-cell tlr-cell-${column}`} title={reason}>
        <span class="tlr-faint tlr-fixed-bits">16</span>
      </div>
    );
  }
  return (
    <div role="gridcell" class={`tlr-cell tlr-cell-${column}`}>
      <Bits
        control={control}
        label={`Bits of ${name}`}
        tabIndex={tabIndex}
        begin={() => store.edits.begin()}
        choose={(stop, gesture) => chooseStop(store, weights.peek(), name, stop, gesture)}
        end={() => store.edits.end()}
      />
      <span class={look}>{short}</span>
    </div>
  );
}
