import { useComputed } from "@preact/signals";
import type { VNode } from "preact";
import type { TableColumn } from "../columns";
import type { Store } from "../store";
import { type CellProps, type Most, SchemeCell, TextCell } from "./cells";
import { BitsCell, ErrorCell, LatencyCell, NumberCell, SizeCell } from "./figureCells";

export interface RowProps {
  store: Store;
  op: number;
  index: number;
  top: number;
  id: string;
  active: boolean;
  columns: readonly TableColumn[];
  most: Most;
  press(op: number, index: number, e: MouseEvent): void;
}

/**
 * One op. A drag or a scroll has little time: cells write their text and bars through signals, without making elements
 * again, and each is one element where that will do.
 */
export function Row({ store, op, index, top, id, active, columns, most, press }: RowProps): VNode {
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
      onClick={(e) => press(op, index, e)}
      onPointerEnter={() => store.hoverOp(op)}
    >
      {columns.map(({ key }) => (
        <Cell key={key} store={store} op={op} column={key} tabIndex={active ? 0 : -1} most={most} />
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
