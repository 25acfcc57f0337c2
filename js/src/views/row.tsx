import { type ReadonlySignal, useComputed } from "@preact/signals";
import type { VNode } from "preact";
import type { TableColumn } from "../columns";
import type { Store } from "../store";
import { ROW_HEIGHT } from "../theme";
import { type CellProps, type Most, TextCell } from "./cells";
import { BitsCell, ErrorCell, LatencyCell, NumberCell, SizeCell } from "./figureCells";
import { useStyle } from "./inline";
import { SchemeCell } from "./schemeCell";
import type { Slot } from "./slots";

export interface RowProps {
  store: Store;
  slot: Slot;
  uid: string;
  active: ReadonlySignal<number>;
  columns: readonly TableColumn[];
  most: Most;
  press(slot: Slot, e: MouseEvent): void;
  enter(slot: Slot): void;
  focus(slot: Slot): void;
}

/**
 * One op, another one after a scroll. A drag or a scroll has little time: everything that may change is written through
 * signals into elements that stay, and each cell is one element where that will do.
 */
export function Row({ store, slot, uid, active, columns, most, press, enter, focus }: RowProps): VNode {
  const { op, index, seen } = slot;
  const follows = useComputed(() => seen.value || !store.edits.gesturing.value);
  const scheme = useComputed(() => (follows.value ? store.edits.scheme : store.edits.held.value));
  const priced = useComputed<unknown>(() => follows.value && store.prices.totals.value);
  const selected = useComputed(() => store.selection.value.has.has(op.value));
  const isActive = useComputed(() => active.value === index.value);
  const look = useComputed(() => {
    const marks = [
      selected.value ? " is-selected" : "",
      isHovered(store, op.value) ? " is-hovered" : "",
      isActive.value ? " is-active" : "",
    ];
    return `tlr-row${marks.join("")}`;
  });
  const tabIndex = useComputed(() => (isActive.value ? 0 : -1));
  const place = useComputed(() => `translateY(${index.value * ROW_HEIGHT}px)`);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the grid handles the keys of its active row
    <div
      ref={useStyle("transform", place)}
      class={look}
      role="row"
      id={useComputed(() => `${uid}-row-${op.value}`)}
      aria-rowindex={useComputed(() => index.value + 2)}
      aria-selected={selected}
      data-testid="op-row"
      data-op={op}
      onClick={(e) => press(slot, e)}
      onPointerEnter={() => enter(slot)}
      onFocusIn={() => focus(slot)}
    >
      {columns.map(({ key, width }) => (
        <Cell
          key={key}
          store={store}
          op={op}
          scheme={scheme}
          priced={priced}
          column={key}
          width={width}
          tabIndex={tabIndex}
          most={most}
        />
      ))}
    </div>
  );
}

function Cell(props: CellProps): VNode {
  switch (props.column) {
    case "scheme":
      return <SchemeCell {...props} />;
    case "bits":
      return <BitsCell {...props} />;
    case "size":
      return <SizeCell {...props} />;
    case "error":
      return <ErrorCell {...props} />;
    case "latency":
      return <LatencyCell {...props} />;
    case "name":
    case "op_type":
    case "output":
    case "module":
    case "module_class":
    case "source":
    case "bound":
    case "unit":
      return <TextCell {...props} />;
    default:
      return <NumberCell {...props} />;
  }
}

function isHovered(store: Store, op: number): boolean {
  const hover = store.hover.value;
  if (!hover) return false;
  if (hover.op >= 0) return hover.op === op;
  const { parent } = store.program.value.modules;
  let module = store.program.value.ops.module[op] ?? -1;
  for (; module >= 0; module = parent[module] ?? -1) if (hover.modules.includes(module)) return true;
  return false;
}
