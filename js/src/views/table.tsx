import { computed, useComputed, useSignal, useSignalEffect } from "@preact/signals";
import type { VNode } from "preact";
import { useCallback, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { type ColumnKey, columnsFor, type TableColumn } from "../columns";
import { isFiltered, type TableView } from "../filters";
import * as format from "../format";
import type { Bins } from "../histogram";
import { errorsKnown } from "../sqnr";
import type { Store } from "../store";
import { ROW_HEIGHT } from "../theme";
import { ColumnMenu } from "./columnMenu";
import { FilterMenus } from "./filterMenus";
import { Row } from "./row";
import { useBins, useShown } from "./shownOps";
import type { Slot } from "./slots";
import { TableHead } from "./tableHead";
import { TotalRow } from "./total";
import { FOOTER, HEADER, inView, useVirtualRows } from "./virtualRows";

export function Table({ store, uid }: { store: Store; uid: string }): VNode {
  const view = store.tableView.value;
  const [width, setWidth] = useState(820);
  // Those that are being found have their place from the start: nothing moves when they come.
  const errors = errorsKnown(store.costs.value) || store.findsErrors.value;
  const columns = useMemo(() => columnsFor(width, errors, view.columns), [width, errors, view.columns]);
  const bins = useBins(store, columns);
  const { order, others } = useShown(store, bins);
  const filtered = isFiltered(view);
  const edit = (change: Partial<TableView>): void => {
    store.tableView.value = { ...store.tableView.peek(), ...change };
  };
  return (
    <section class="tlr-table" aria-label="Ops">
      <div class="tlr-toolbar">
        <input
          class="tlr-search"
          type="search"
          aria-label="Search ops"
          placeholder="Name, type, module, file"
          value={view.query}
          onInput={(e) => edit({ query: e.currentTarget.value })}
          onKeyDown={(e) => {
            if (e.key !== "Escape" || view.query === "") return;
            e.stopPropagation();
            edit({ query: "" });
          }}
        />
        <FilterMenus store={store} others={others} />
        <span class="tlr-spacer" />
        <Counts store={store} shown={order.length} />
        <button
          type="button"
          class="tlr-button"
          aria-label={filtered ? `Select ${format.grouped(order.length)} shown` : "Select all shown"}
          disabled={order.length === 0}
          title="Select every op that is shown (Ctrl or ⌘ A)"
          onClick={() => store.select([...order], "table")}
        >
          {filtered ? `Select ${format.grouped(order.length)}` : "Select all"}
        </button>
        <ColumnMenu store={store} shown={columns} />
      </div>
      <Grid store={store} uid={uid} order={order} columns={columns} bins={bins} setWidth={setWidth} />
    </section>
  );
}

function Counts({ store, shown }: { store: Store; shown: number }): VNode {
  const selected = store.selection.value.ops.length;
  return (
    <span class="tlr-muted tlr-counts" role="status">
      <span>
        <span>{`${format.grouped(shown)} of ${format.grouped(store.program.value.ops.count)}`}</span>
      </span>
      <span>
        <span>{" shown"}</span>
      </span>
      {selected > 0 && <span class="tlr-sr">{`, ${format.grouped(selected)} selected`}</span>}
    </span>
  );
}

interface GridProps {
  store: Store;
  uid: string;
  order: Int32Array;
  columns: readonly TableColumn[];
  bins: ReadonlyMap<ColumnKey, Bins>;
  setWidth(width: number): void;
}

function Grid({ store, uid, order, columns, bins, setWidth }: GridProps): VNode {
  const scroller = useRef<HTMLDivElement>(null);
  const active = useSignal(0);
  const anchor = useRef(0);
  const pointed = useRef<Slot | null>(null);
  const hover = (): void => {
    if (pointed.current) store.hoverOp(pointed.current.op.peek());
  };
  const { virtual, slots } = useVirtualRows(scroller, order, active, store.edits.gesturing, hover);
  const most = useComputed(() => {
    store.prices.baseline.value;
    return { bytes: largest(store.prices.loaded.opBytes), ms: largest(store.prices.loaded.opMs) };
  }).value;

  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      if (entry && entry.contentRect.width > 0) setWidth(Math.round(entry.contentRect.width));
    });
    observer.observe(scroller.current!);
    return () => observer.disconnect();
  }, [setWidth]);

  // What one sorts by is looked for at the top.
  const { sort } = store.tableView.value;
  const sorted = useRef(sort);
  useLayoutEffect(() => {
    if (sorted.current !== sort) virtual.scrollToIndex(0);
    sorted.current = sort;
  }, [virtual, sort]);

  const shown = useRef(order);
  shown.current = order;
  useSignalEffect(() => {
    const { has, origin, ops } = store.selection.value;
    if (origin === "table" || ops.length === 0) return;
    const at = shown.current.findIndex((op) => has.has(op));
    if (at < 0) return;
    anchor.current = at;
    active.value = at;
    virtual.scrollToIndex(at, { align: inView(virtual, at) ? "auto" : "center" });
  });

  // The same functions throughout, or every row would be drawn again with the table.
  const press = useCallback(
    (slot: Slot, e: MouseEvent): void => {
      const [op, index] = [slot.op.peek(), slot.index.peek()];
      active.value = index;
      if (e.shiftKey) {
        e.preventDefault();
        store.select(range(shown.current, anchor.current, index), "table");
        return;
      }
      anchor.current = index;
      if (e.ctrlKey || e.metaKey) store.toggle([op], "table");
      else store.select([op], "table");
    },
    [store, active],
  );
  // Rows that pass below the pointer in a scroll are not meant: that would draw the graph again with every one.
  const enter = useCallback(
    (slot: Slot): void => {
      pointed.current = slot;
      if (!virtual.isScrolling) store.hoverOp(slot.op.peek());
    },
    [store, virtual],
  );
  // A row that has focus is the active one, and keeps its slot: keys go to the op they went to.
  const focus = useCallback(
    (slot: Slot): void => {
      active.value = slot.index.peek();
    },
    [active],
  );

  const key = (e: KeyboardEvent): void => {
    if (e.target !== e.currentTarget || order.length === 0) return;
    const page = Math.max(
      1,
      Math.floor(((scroller.current?.clientHeight ?? 400) - HEADER - FOOTER) / ROW_HEIGHT),
    );
    const steps: Record<string, number> = {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: page,
      PageUp: -page,
      Home: -order.length,
      End: order.length,
    };
    const by = steps[e.key];
    if (by !== undefined) {
      const next = Math.min(order.length - 1, Math.max(0, active.peek() + by));
      active.value = next;
      virtual.scrollToIndex(next, { align: "auto" });
      if (e.shiftKey) store.select(range(order, anchor.current, next), "table");
    } else if (e.key === " " || e.key === "Enter") {
      const at = Math.min(active.peek(), order.length - 1);
      anchor.current = at;
      if (e.ctrlKey || e.metaKey || e.key === " ") store.toggle([order[at]!], "table");
      else store.select([order[at]!], "table");
    } else if (e.key.toLowerCase() === "a" && (e.ctrlKey || e.metaKey)) {
      store.select([...order], "table");
    } else return;
    e.preventDefault();
    e.stopPropagation();
  };

  const template = columns.map((c, i) => (i === 0 ? "minmax(0, 1fr)" : `${c.width}px`)).join(" ");
  const least = columns.reduce((sum, c) => sum + c.width, 0);
  const activeRow = useMemo(
    () =>
      computed(() => {
        const op = order[Math.min(active.value, order.length - 1)];
        return op === undefined ? undefined : `${uid}-row-${op}`;
      }),
    [order, uid, active],
  );
  return (
    <div
      ref={scroller}
      class="tlr-grid"
      role="grid"
      tabIndex={0}
      aria-label="Ops of the model"
      aria-rowcount={order.length + 2}
      aria-colcount={columns.length}
      aria-multiselectable
      aria-activedescendant={activeRow}
      style={{ "--tlr-columns": template, "--tlr-least": `${least}px` }}
      onKeyDown={key}
      onPointerLeave={() => {
        pointed.current = null;
        store.hoverOp(-1);
      }}
    >
      <TableHead store={store} columns={columns} bins={bins} shown={order} />
      <div class="tlr-rows" role="rowgroup" style={{ height: `${order.length * ROW_HEIGHT}px` }}>
        {slots.map((slot) => (
          <Row
            key={slot.id}
            store={store}
            slot={slot}
            uid={uid}
            active={active}
            columns={columns}
            most={most}
            press={press}
            enter={enter}
            focus={focus}
          />
        ))}
        {order.length === 0 && <div class="tlr-empty">No op matches. Try fewer words or filters.</div>}
      </div>
      <TotalRow store={store} columns={columns} shown={order} filtered={isFiltered(store.tableView.value)} />
    </div>
  );
}

const range = (order: Int32Array, a: number, b: number): number[] =>
  Array.from(order.subarray(Math.min(a, b), Math.max(a, b) + 1));

function largest(values: Float64Array): number {
  let most = 0;
  for (const value of values) if (value > most) most = value;
  return most || 1;
}
