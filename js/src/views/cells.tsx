import { type ReadonlySignal, useComputed } from "@preact/signals";
import type { VNode } from "preact";
import type { ColumnKey } from "../columns";
import { BOUNDS } from "../estimate";
import * as format from "../format";
import { measuredUnit } from "../measured";
import { lastCharacters, type Parts, partsOfName, partsOfPath } from "../shorten";
import type { Store } from "../store";

/** Largest values as loaded: the full width of in-cell bars. */
export interface Most {
  bytes: number;
  ms: number;
}

export interface CellProps {
  store: Store;
  /** another one after a scroll */
  op: ReadonlySignal<number>;
  /** the scheme of every weight, and a signal that changes with their prices; both wait while nobody sees the row */
  scheme: ReadonlySignal<Uint16Array>;
  priced: ReadonlySignal<unknown>;
  column: ColumnKey;
  /** of the cell, in pixels */
  width: number;
  tabIndex: ReadonlySignal<number>;
  most: Most;
}

const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufefc]/;

/** What an op is: words that no edit changes but for what bounds it. */
export function TextCell(props: CellProps): VNode {
  switch (props.column) {
    case "name":
    case "module":
    case "source":
    case "module_class":
      return <Split {...props} />;
    case "bound":
      return <BoundCell {...props} />;
    case "unit":
      return <UnitCell {...props} />;
    default:
      return <WordCell {...props} />;
  }
}

function WordCell({ store, op, column }: CellProps): VNode {
  const text = useComputed(() => {
    const { ops } = store.program.value;
    return (column === "output" ? ops.output : ops.opType)[op.value] ?? "";
  });
  return (
    <div role="gridcell" class={`tlr-cell tlr-cell-${column}`} title={text} dir="auto">
      {text}
    </div>
  );
}

/** The most parts that a text is cut into. */
const PARTS = [0, 1, 2, 3];
const COUNTS: Partial<Record<ColumnKey, number>> = { name: 3, module: 4 };

/** Text that gives way in the middle where there is no room: its telling parts stay. */
function Split({ store, op, column }: CellProps): VNode {
  const parts = useComputed(() => {
    const found = partsOf(store, op.value, column);
    const text = textOf(found);
    // The order of letters is not the order on screen there: such text is cut where it ends.
    return RIGHT_TO_LEFT.test(text) ? ([[text, false]] as const) : found;
  });
  const title = useComputed(() => {
    const { ops, modules } = store.program.value;
    if (column !== "name") return textOf(parts.value);
    const { value } = op;
    const lines = [ops.name[value], ops.opType[value], modules.path[ops.module[value]!], ops.source[value]];
    return lines.filter(Boolean).join("\n");
  });
  const direction = useComputed(() => (RIGHT_TO_LEFT.test(textOf(parts.value)) ? "rtl" : undefined));
  return (
    <div role="gridcell" class={`tlr-cell tlr-cell-${column} is-split`} title={title} dir={direction}>
      {PARTS.slice(0, COUNTS[column] ?? 2).map((part) => (
        <Part key={part} parts={parts} part={part} />
      ))}
    </div>
  );
}

function Part({ parts, part }: { parts: ReadonlySignal<Parts>; part: number }): VNode {
  const text = useComputed(() => parts.value[part]?.[0] ?? "");
  const look = useComputed(() => (parts.value[part]?.[1] === false ? "tlr-text-gives" : "tlr-text-stays"));
  return <span class={look}>{text}</span>;
}

const textOf = (parts: Parts): string => parts.map(([part]) => part).join("");

function partsOf(store: Store, op: number, column: ColumnKey): Parts {
  const { ops, modules } = store.program.value;
  const module = ops.module[op] ?? 0;
  switch (column) {
    case "module":
      return partsOfPath(modules.path[module] || "model");
    case "module_class":
      return lastCharacters(modules.className[module] ?? "", 8);
    case "source":
      return lastCharacters(ops.source[op] ?? "", 10);
    default:
      return partsOfName(ops.name[op] ?? "");
  }
}

function BoundCell({ store, op, priced, column }: CellProps): VNode {
  const text = useComputed(() => {
    priced.value;
    return BOUNDS[store.prices.live.bound[op.value] ?? 0]!;
  });
  return (
    <div role="gridcell" class={`tlr-cell tlr-cell-${column}`}>
      {text}
    </div>
  );
}

/** Where the op runs; on hover, why it left the Neural Engine. */
function UnitCell({ store, op, column }: CellProps): VNode {
  const measured = useComputed(() => measuredUnit(store, op.value));
  const expected = useComputed(() => store.costs.value.units[store.costs.value.unit[op.value]!] ?? "");
  const text = useComputed(() => (measured.value === "" ? expected.value : format.MEASURED + measured.value));
  const title = useComputed(() => {
    const { unitReason, unitReasons } = store.costs.value;
    if (measured.value === "") return unitReasons[unitReason[op.value]!] ?? expected.value;
    return `${measured.value}: where Core ML prefers to run it on ${store.measured.value?.machine}\nexpected: ${expected.value}`;
  });
  return (
    <div role="gridcell" class={`tlr-cell tlr-cell-${column}`} title={title}>
      {text}
    </div>
  );
}
