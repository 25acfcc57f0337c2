import { type ReadonlySignal, useComputed } from "@preact/signals";
import type { VNode } from "preact";
import { useRef } from "preact/hooks";
import { written } from "../columns";
import * as format from "../format";
import { measuredOp } from "../measured";
import { numberOf } from "../opValues";
import { noiseCertainty, noiseText, opNoise } from "../sqnr";
import { Bits } from "./bits";
import type { CellProps } from "./cells";
import { chooseStop, useControl } from "./control";
import { insetShadow, useGiven, useSettled, useStyle } from "./inline";

interface FigureProps {
  column: string;
  text: ReadonlySignal<string>;
  /** of a bar below the text, now and in the baseline, in pixels */
  bar?: readonly [now: ReadonlySignal<number>, was: ReadonlySignal<number>];
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
      onPointerLeave={(e) => e.currentTarget.removeAttribute("title")}
    >
      {text}
      {bar && <Bar now={bar[0]} was={bar[1]} />}
    </div>
  );
}

/**
 * A bar before another one, which is seen where it is longer. Both are shadows, of which a drag changes the offset: a
 * width would ask for layout, a transform for composing the whole page, and a gradient takes longer to paint.
 */
function Bar({ now, was }: { now: ReadonlySignal<number>; was: ReadonlySignal<number> }): VNode {
  const inner = useComputed(() => insetShadow(now.value));
  const outer = useComputed(() => insetShadow(was.value));
  return (
    <div class="tlr-bar is-was" ref={useStyle("boxShadow", outer)}>
      <div class="tlr-bar" ref={useStyle("boxShadow", inner)} />
    </div>
  );
}

/** From the edges of a cell to its bar; styles/rows.css has the same. */
const PADDING = 8;

/** How long the bar of a value is. */
const lengthOf = (value: number, most: number, width: number): number =>
  Math.min(1, Math.max(0, value / most)) * (width - 2 * PADDING);

export function SizeCell({ store, op, priced, most, column, width }: CellProps): VNode {
  const { prices } = store;
  const wide = useGiven(width);
  const full = useGiven(most.bytes);
  const now = useComputed(() => {
    priced.value;
    return prices.live.opBytes[op.value]!;
  });
  const was = useComputed(() => {
    prices.baseline.value;
    return prices.base.opBytes[op.value]!;
  });
  const text = useComputed(() => (was.value === 0 ? "" : format.bytesChange(was.value, now.value)));
  const bar = [
    useComputed(() => lengthOf(now.value, full.value, wide.value)),
    useComputed(() => lengthOf(was.value, full.value, wide.value)),
  ] as const;
  const title = (): string => {
    const [a, b] = [was.peek(), now.peek()];
    if (a === 0) return "";
    return `${format.exactBytes(b)}, exact\n${store.baselineName.peek()}: ${format.exactBytes(a)}\n${format.changeInWords(a, b, "smaller", "larger")}`;
  };
  return <Figure column={column} text={text} bar={bar} title={title} />;
}

/** Of the weights, in decibels; "≈" where tables are clustered. */
export function ErrorCell({ store, op, scheme, column }: CellProps): VNode {
  const inWords = (columns: Uint16Array): string => {
    const unknown = store.unknownError.value;
    return noiseText(opNoise(store.costs.value, columns, op.value), { ...unknown, short: unknown.sign });
  };
  const now = useComputed(() => inWords(scheme.value));
  const was = useComputed(() => inWords(store.baseScheme));
  const text = useComputed(() =>
    was.value === now.value ? now.value : `${was.value} ${format.ARROW} ${now.value}`,
  );
  const title = (): string => {
    const noise = opNoise(store.costs.peek(), scheme.peek(), op.peek());
    if (!noise) return "";
    if (Number.isNaN(noise.ratio)) return store.unknownError.peek().title;
    return `Signal to noise of the weights: ${now.peek()}\n${noiseCertainty(noise, store.unknownError.peek())}\n${store.baselineName.peek()}: ${was.peek()}\nMore is better. It grades the weights, not the model's output.`;
  };
  return <Figure column={column} text={text} title={title} />;
}

export function LatencyCell({ store, op, priced, most, column, width }: CellProps): VNode {
  const { prices } = store;
  const wide = useGiven(width);
  const full = useGiven(most.ms);
  const measured = useComputed(() => measuredOp(store, op.value));
  const now = useComputed(() => {
    priced.value;
    return prices.live.opMs[op.value]!;
  });
  const was = useComputed(() => {
    prices.baseline.value;
    return prices.base.opMs[op.value]!;
  });
  const text = useComputed(() => {
    if (measured.value) return format.MEASURED + format.milliseconds(measured.value.ms);
    const [a, b] = [format.milliseconds(was.value), format.milliseconds(now.value)];
    return `${format.ABOUT}${a === b ? b : `${a} ${format.ARROW} ${b}`}`;
  });
  const bar = [
    useComputed(() => lengthOf(measured.value?.ms ?? now.value, full.value, wide.value)),
    useComputed(() => (measured.value ? 0 : lengthOf(was.value, full.value, wide.value))),
  ] as const;
  const title = (): string => {
    const [low, high] = store.costs.peek().interval;
    const [before, ms] = [format.milliseconds(was.peek()), now.peek()];
    const estimated = `${format.ABOUT}${format.milliseconds(ms)} ms`;
    const found = measured.peek();
    if (found)
      return `${format.milliseconds(found.ms)} ms, measured on ${found.machine}: the median prediction times Core ML's share for the op\nestimated: ${estimated}`;
    return `${estimated}, estimated\n80 % interval ${format.milliseconds(ms * low)} – ${format.milliseconds(ms * high)} ms\n${store.baselineName.peek()}: ${format.ABOUT}${before} ms`;
  };
  return <Figure column={column} text={text} bar={bar} title={title} />;
}

/** A figure of the op alone, exact ones in full on hover. */
export function NumberCell({ store, op, priced, column }: CellProps): VNode {
  const value = useComputed(() => {
    priced.value;
    return numberOf(store, column, op.value);
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

/** What stands beside the slider of a row, as wide as styles/bits.css has it. */
const VALUE = 22;
const MIXED = 38;

/** The bits of an op's weights on a slider; in words only where they cannot be changed, and nothing without weights. */
export function BitsCell({ store, op, scheme, tabIndex, column, width }: CellProps): VNode {
  const weights = useComputed(() => store.weightsOf([op.value]));
  const control = useControl(store, weights, scheme);
  const editable = useSettled(() => control.value.editable > 0);
  const away = useComputed(() => !editable.value);
  // What nobody sees stays as it is.
  const last = useRef(control.peek());
  const seen = useComputed(() => {
    if (control.value.editable > 0) last.current = control.value;
    return last.current;
  });
  const mixed = useSettled(() => seen.value.at < 0);
  const fixed = useComputed(() => !editable.value && weights.value.length > 0);
  const short = useComputed(() => (editable.value ? control.value.short : fixed.value ? "16" : ""));
  const title = useComputed(() =>
    fixed.value ? (control.value.stops.find((s) => s.reason !== "")?.reason ?? "stays float16") : undefined,
  );
  const wide = useGiven(width);
  const slider = useComputed(() => wide.value - 2 * PADDING - (mixed.value ? MIXED : VALUE));
  const look = useComputed(() => {
    if (!editable.value) return "tlr-bits-value is-fixed";
    return `tlr-bits-value${mixed.value ? " is-mixed" : ""}`;
  });
  const name = useComputed(() => store.program.value.ops.name[op.value] ?? "");
  return (
    <div role="gridcell" class={`tlr-cell tlr-cell-${column}`} title={title}>
      <Bits
        control={seen}
        away={away}
        width={slider}
        label={useComputed(() => `Bits of ${name.value}`)}
        tabIndex={tabIndex}
        begin={() => store.edits.begin()}
        choose={(stop, gesture) => chooseStop(store, weights.peek(), name.peek(), stop, gesture)}
        end={() => store.edits.end()}
      />
      <span class={look}>{short}</span>
    </div>
  );
}
