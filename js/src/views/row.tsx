import { useComputed } from "@preact/signals";
import type { VNode } from "preact";
import { type ColumnKey, type TableColumn, written } from "../columns";
import { BOUNDS } from "../estimate";
import * as format from "../format";
import { measuredOp, measuredUnit } from "../measured";
import { numberOf } from "../opValues";
import { type Noise, opNoise } from "../sqnr";
import type { Store } from "../store";
import { Bits } from "./bits";
import { chooseFamily, chooseStop, controlFor } from "./control";
import { SchemeSelect } from "./scheme";

export interface RowProps {
  store: Store;
  op: number;
  index: number;
  top: number;
  id: string;
  active: boolean;
  columns: readonly TableColumn[];
  /** largest values as loaded, the full width of in-cell bars */
  most: { bytes: number; ms: number };
  press(op: number, index: number, e: MouseEvent): void;
}

export function Row(props: RowProps): VNode {
  const { store, op, index, top, id, active, columns } = props;
  const selected = useComputed(() => store.selection.value.has.has(op)).value;
  const hovered = useComputed(() => isHovered(store, op)).value;
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the grid handles the keys of its active row
    <div
      class={`tlr-row${selected ? " is-selected" : ""}${hovered ? " is-hovered" : ""}${active ? " is-active" : ""}`}
      role="row"
      id={id}
      aria-rowindex={index + 2}
      aria-selected={selected}
      data-testid="op-row"
      data-op={op}
      style={{ transform: `translateY(${top}px)` }}
      onClick={(e) => props.press(op, index, e)}
      onPointerEnter={() => store.setHover({ op, module: -1 })}
    >
      {columns.map((c) => (
        <div key={c.key} role="gridcell" class={`tlr-cell tlr-cell-${c.key}`}>
          <Cell {...props} column={c.key} />
        </div>
      ))}
    </div>
  );
}

function isHovered(store: Store, op: number): boolean {
  const hover = store.hover.value;
  if (!hover) return false;
  if (hover.op >= 0) return hover.op === op;
  const { parent } = store.program.value.modules;
  let module = store.program.value.ops.module[op] ?? -1;
  for (; module >= 0; module = parent[module] ?? -1) if (module === hover.module) return true;
  return false;
}

function Cell({ store, op, active, most, column }: RowProps & { column: ColumnKey }): VNode | null {
  const { ops, modules } = store.program.value;
  const tabIndex = active ? 0 : -1;
  switch (column) {
    case "name":
      return (
        <Text
          value={ops.name[op]!}
          mono
          tail={10}
          title={[ops.name[op], ops.opType[op], modules.path[ops.module[op]!], ops.source[op]]
            .filter(Boolean)
            .join("\n")}
        />
      );
    case "op_type":
      return <Text value={ops.opType[op]!} />;
    case "output":
      return <Text value={ops.output[op]!} />;
    case "module":
      return <Text value={modules.path[ops.module[op]!] || "model"} tail={14} />;
    case "source":
      return <Text value={ops.source[op]!} tail={10} />;
    case "scheme":
      return (
        <>
          <SchemeCell store={store} op={op} tabIndex={tabIndex} />
          {store.edits.int8.value[op] ? (
            <span class="tlr-int8" title="int8 activations">
              A8
            </span>
          ) : null}
        </>
      );
    case "bits":
      return <BitsCell store={store} op={op} tabIndex={tabIndex} />;
    case "size":
      return <SizeCell store={store} op={op} most={most.bytes} />;
    case "error":
      return <ErrorCell store={store} op={op} />;
    case "latency":
      return <LatencyCell store={store} op={op} most={most.ms} />;
    case "bound":
      store.prices.totals.value;
      return <Text value={BOUNDS[store.prices.live.bound[op]!]!} />;
    case "unit":
      return <UnitCell store={store} op={op} />;
    case "module_class":
      return <Text value={modules.className[ops.module[op]!] ?? ""} tail={8} />;
    default:
      return <NumberCell store={store} op={op} column={column} />;
  }
}

/** A figure of the op alone, exact ones in full on hover. */
function NumberCell({ store, op, column }: { store: Store; op: number; column: ColumnKey }): VNode | null {
  store.prices.totals.value;
  const value = numberOf(store, column, op);
  if (Number.isNaN(value)) return null;
  const exact = column === "flops" || column === "elements" || column === "activation_bytes";
  const rough = column === "energy" || column === "latency_share";
  return (
    <span class="tlr-text" title={exact ? format.grouped(value) : undefined}>
      {(rough ? format.ABOUT : "") + written(column, value)}
    </span>
  );
}

/** Where the op runs; on hover, why it left the Neural Engine. */
function UnitCell({ store, op }: { store: Store; op: number }): VNode {
  const { units, unit, unitReason, unitReasons } = store.costs.value;
  const name = units[unit[op]!] ?? "";
  const measured = measuredUnit(store, op);
  if (measured !== "")
    return (
      <Text
        value={format.MEASURED + measured}
        title={`${measured}: where Core ML prefers to run it on ${store.measured.value?.machine}\nexpected: ${name}`}
      />
    );
  return <Text value={name} title={unitReasons[unitReason[op]!] ?? name} />;
}

interface TextProps {
  value: string;
  mono?: boolean;
  /** characters at the end that stay when there is no room: that is where names differ */
  tail?: number;
  title?: string;
}

const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufefc]/;

function Text({ value, mono, tail = 0, title = value }: TextProps): VNode {
  let cut = Math.max(0, value.length - tail);
  // Not between the halves of one character, and not where the order of letters is not the order on screen.
  if (/[\udc00-\udfff]/.test(value[cut] ?? "")) cut++;
  if (tail === 0 || RIGHT_TO_LEFT.test(value)) cut = value.length;
  return (
    <bdi class={`tlr-text${mono ? " is-mono" : ""}`} title={title}>
      <span class="tlr-text-head">{value.slice(0, cut)}</span>
      {cut < value.length && <span class="tlr-text-tail">{value.slice(cut)}</span>}
    </bdi>
  );
}

interface CellProps {
  store: Store;
  op: number;
  tabIndex: number;
}

function SchemeCell({ store, op, tabIndex }: CellProps): VNode | null {
  const weights = store.weightsOf([op]);
  // Drawn again when the family changes, and not at every stop of a drag.
  const family = useComputed(() => {
    const control = controlFor(store, store.weightsOf([op]));
    return control.editable === 0 ? null : control.family;
  }).value;
  if (weights.length === 0) return null;
  const name = store.program.value.ops.name[op]!;
  if (family === null) return <span class="tlr-faint">float16</span>;
  return (
    <SchemeSelect
      costs={store.costs.value}
      weights={weights}
      held={store.edits.held.value}
      family={family}
      label={`Scheme of ${name}`}
      tabIndex={tabIndex}
      choose={(family) => chooseFamily(store, weights, name, family)}
    />
  );
}

function BitsCell({ store, op, tabIndex }: CellProps): VNode | null {
  const weights = store.weightsOf([op]);
  if (weights.length === 0) return null;
  const control = controlFor(store, weights);
  const name = store.program.value.ops.name[op]!;
  if (control.editable === 0) {
    const reason = control.stops.find((s) => s.reason !== "")?.reason ?? "stays float16";
    return (
      <span class="tlr-faint tlr-fixed-bits" title={reason}>
        16
      </span>
    );
  }
  return (
    <>
      <Bits
        stops={control.stops}
        at={control.at}
        mean={control.mean}
        label={`Bits of ${name}`}
        valueText={control.valueText}
        tabIndex={tabIndex}
        begin={() => store.edits.begin()}
        choose={(stop, gesture) => chooseStop(store, weights, name, stop, gesture)}
        end={() => store.edits.end()}
      />
      <span class={`tlr-bits-value${control.at < 0 ? " is-mixed" : ""}`}>{control.short}</span>
    </>
  );
}

interface BarCellProps {
  store: Store;
  op: number;
  most: number;
}

function SizeCell({ store, op, most }: BarCellProps): VNode | null {
  store.prices.totals.value;
  store.prices.baseline.value;
  const was = store.prices.base.opBytes[op]!;
  const now = store.prices.live.opBytes[op]!;
  if (was === 0) return null;
  return (
    <Bar
      now={now / most}
      was={was / most}
      title={() =>
        `${format.exactBytes(now)}, exact\n${store.baselineName.value}: ${format.exactBytes(was)}\n${format.changeInWords(was, now, "smaller", "larger")}`
      }
    >
      {format.bytesChange(was, now)}
    </Bar>
  );
}

/** Of the weights, in decibels; "≈" where tables are clustered. */
function ErrorCell({ store, op }: { store: Store; op: number }): VNode | null {
  const costs = store.costs.value;
  const now = opNoise(costs, store.edits.history.value.scheme, op);
  const was = opNoise(costs, store.baseScheme, op);
  if (!now || !was) return null;
  const written = (noise: Noise): string =>
    (noise.exact || noise.ratio === 0 ? "" : format.ABOUT) + format.decibels(noise.ratio);
  const [a, b] = [written(was), written(now)];
  const certainty = now.exact ? "exact" : "estimated: of our tables; coremltools' may be 0.3 dB worse";
  return (
    <span
      class="tlr-text"
      title={`Signal to noise of the weights: ${b}${Number.isNaN(now.ratio) || now.ratio === 0 ? "" : `, ${certainty}`}\n${store.baselineName.value}: ${a}\nMore is better. It grades the weights, not the model's output.`}
    >
      {a === b ? b : `${a} ${format.ARROW} ${b}`}
    </span>
  );
}

function LatencyCell({ store, op, most }: BarCellProps): VNode {
  store.prices.totals.value;
  store.prices.baseline.value;
  const [low, high] = store.costs.value.interval;
  const now = store.prices.live.opMs[op]!;
  const [a, b] = [format.milliseconds(store.prices.base.opMs[op]!), format.milliseconds(now)];
  const measured = measuredOp(store, op);
  if (measured)
    return (
      <Bar
        now={measured.ms / most}
        was={0}
        title={() =>
          `${format.milliseconds(measured.ms)} ms, measured on ${measured.machine}: the median prediction times Core ML's share for the op\nestimated: ${format.ABOUT}${b} ms`
        }
      >
        {format.MEASURED + format.milliseconds(measured.ms)}
      </Bar>
    );
  return (
    <Bar
      soft
      now={now / most}
      was={store.prices.base.opMs[op]! / most}
      title={() =>
        `${format.ABOUT}${b} ms, estimated\n80 % interval ${format.milliseconds(now * low)} – ${format.milliseconds(now * high)} ms\n${store.baselineName.value}: ${format.ABOUT}${a} ms`
      }
    >
      {`${format.ABOUT}${a === b ? b : `${a} ${format.ARROW} ${b}`}`}
    </Bar>
  );
}

function Bar({
  now,
  was,
  soft,
  title,
  children,
}: {
  now: number;
  was: number;
  soft?: boolean;
  /** asked for once the pointer is there: nobody reads it during a drag */
  title(): string;
  children: string;
}): VNode {
  // Scaled, not resized: a drag then asks for no layout.
  const to = (value: number): { transform: string } => ({
    transform: `scaleX(${Math.min(1, Math.max(0, value))})`,
  });
  return (
    <div
      class={`tlr-bar${soft ? " is-soft" : ""}`}
      onPointerEnter={(e) => {
        e.currentTarget.title = title();
      }}
    >
      {was > now * 1.0001 && <div class="tlr-bar-was" style={to(was)} />}
      <div class="tlr-bar-now" style={to(now)} />
      <span class="tlr-bar-text">{children}</span>
    </div>
  );
}
