import { useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import type { VNode } from "preact";
import { useLayoutEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import {
  columnsFor,
  nextSort,
  type SortKey,
  searchOps,
  sortOps,
  type TableColumn,
  tooltip,
} from "../columns";
import * as format from "../format";
import { errorsKnown } from "../sqnr";
import type { Store } from "../store";
import { ROW_HEIGHT } from "../theme";
import { Row } from "./row";
import { TotalRow } from "./total";

const HEADER = 29;
const FOOTER = 28;
const OVERSCAN = 6;

export function Table({ store, uid }: { store: Store; uid: string }): VNode {
  const query = useSignal("");
  const [sort, setSort] = useState<SortKey[]>([{ key: "size", descending: true }]);
  const program = store.program.value;
  const costs = store.costs.value;
  const found = useMemo(() => searchOps(program, query.value), [program, query.value]);
  // Rows keep their place while values change under the pointer: sorted again only when the person asks or the
  // device changes.
  const order = useMemo(() => sortOps(store, found, sort), [store, found, sort, costs]);
  return (
    <section class="tlr-table" aria-label="Ops">
      <div class="tlr-toolbar">
        <input
          class="tlr-search"
          type="search"
          aria-label="Search ops"
          placeholder="Search name, type, module, file"
          value={query.value}
          onInput={(e) => {
            query.value = e.currentTarget.value;
          }}
          onKeyDown={(e) => {
            if (e.key !== "Escape" || query.value === "") return;
            e.stopPropagation();
            query.value = "";
          }}
        />
        <span class="tlr-spacer" />
        <Counts store={store} shown={order.length} />
        <button
          type="button"
          class="tlr-button"
          disabled={order.length === 0}
          title="Select every op that is shown (Ctrl or ⌘ A)"
          onClick={() => store.select(order, "table")}
        >
          Select all shown
        </button>
      </div>
      <Grid
        store={store}
        uid={uid}
        order={order}
        sort={sort}
        setSort={setSort}
        filtered={query.value.trim() !== ""}
      />
    </section>
  );
}

function Counts({ store, shown }: { store: Store; shown: number }): VNode {
  const selected = store.selection.value.ops.length;
  return (
    <span class="tlr-muted tlr-counts" role="status">
      {`${format.grouped(shown)} of ${format.grouped(store.program.value.ops.count)} shown`}
      {selected > 0 && ` · ${format.grouped(selected)} selected`}
    </span>
  );
}

interface GridProps {
  store: Store;
  uid: string;
  order: readonly number[];
  sort: readonly SortKey[];
  setSort(sort: SortKey[]): void;
  filtered: boolean;
}

function Grid({ store, uid, order, sort, setSort, filtered }: GridProps): VNode {
  const scroller = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(820);
  const [active, setActive] = useState(0);
  const anchor = useRef(0);
  const virtual = useVirtualRows(scroller, order.length, Math.min(active, order.length - 1));
  const errors = errorsKnown(store.costs.value);
  const columns = useMemo(() => columnsFor(width, errors), [width, errors]);
  const most = useComputed(() => {
    store.baseline.value;
    return { bytes: largest(store.loaded.opBytes), ms: largest(store.loaded.opMs) };
  }).value;

  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      if (entry && entry.contentRect.width > 0) setWidth(Math.round(entry.contentRect.width));
    });
    observer.observe(scroller.current!);
    return () => observer.disconnect();
  }, []);

  const shown = useRef(order);
  shown.current = order;
  useSignalEffect(() => {
    const { has, origin, ops } = store.selection.value;
    if (origin === "table" || ops.length === 0) return;
    const at = shown.current.findIndex((op) => has.has(op));
    if (at < 0) return;
    anchor.current = at;
    setActive(at);
    virtual.scrollToIndex(at, { align: inView(virtual, at) ? "auto" : "center" });
  });

  const press = (op: number, index: number, e: MouseEvent): void => {
    setActive(index);
    if (e.shiftKey) {
      e.preventDefault();
      store.select(range(order, anchor.current, index), "table");
      return;
    }
    anchor.current = index;
    if (e.ctrlKey || e.metaKey) store.toggle([op], "table");
    else store.select([op], "table");
  };

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
      const next = Math.min(order.length - 1, Math.max(0, active + by));
      setActive(next);
      virtual.scrollToIndex(next, { align: "auto" });
      if (e.shiftKey) store.select(range(order, anchor.current, next), "table");
    } else if (e.key === " " || e.key === "Enter") {
      anchor.current = active;
      if (e.ctrlKey || e.metaKey || e.key === " ") store.toggle([order[active]!], "table");
      else store.select([order[active]!], "table");
    } else if (e.key.toLowerCase() === "a" && (e.ctrlKey || e.metaKey)) {
      store.select(order, "table");
    } else return;
    e.preventDefault();
    e.stopPropagation();
  };

  const template = columns.map((c, i) => (i === 0 ? "minmax(0, 1fr)" : `${c.width}px`)).join(" ");
  const items = virtual.getVirtualItems();
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
      aria-activedescendant={
        order.length > 0 ? `${uid}-row-${order[Math.min(active, order.length - 1)]}` : undefined
      }
      style={{ "--tlr-columns": template }}
      onKeyDown={key}
      onPointerLeave={() => store.setHover(null)}
    >
      <Header store={store} columns={columns} sort={sort} setSort={setSort} />
      <div class="tlr-rows" role="rowgroup" style={{ height: `${order.length * ROW_HEIGHT}px` }}>
        {items.map(({ index }) => {
          const op = order[index];
          if (op === undefined) return null;
          return (
            <Row
              key={op}
              store={store}
              op={op}
              index={index}
              top={index * ROW_HEIGHT}
              id={`${uid}-row-${op}`}
              active={index === active}
              columns={columns}
              most={most}
              press={press}
            />
          );
        })}
        {order.length === 0 && <div class="tlr-empty">No op matches. Try fewer words.</div>}
      </div>
      <TotalRow store={store} columns={columns} shown={order} filtered={filtered} />
    </div>
  );
}

interface HeaderProps {
  store: Store;
  columns: readonly TableColumn[];
  sort: readonly SortKey[];
  setSort(sort: SortKey[]): void;
}

function Header({ store, columns, sort, setSort }: HeaderProps): VNode {
  return (
    <div class="tlr-head" role="row" aria-rowindex={1}>
      {columns.map((c) => {
        const at = sort.findIndex((s) => s.key === c.key);
        const direction = at < 0 ? "none" : sort[at]!.descending ? "descending" : "ascending";
        return (
          <div key={c.key} role="columnheader" aria-sort={direction} class={`tlr-cell tlr-cell-${c.key}`}>
            <button
              type="button"
              title={`${tooltip(store.program.value, c)}\nClick to sort, shift-click for a second key.`}
              onClick={(e) => setSort(nextSort(sort, c, e.shiftKey))}
            >
              {c.title}
              <span class="tlr-sort" aria-hidden="true">
                {at < 0 ? "" : `${direction === "descending" ? "↓" : "↑"}${sort.length > 1 ? at + 1 : ""}`}
              </span>
            </button>
          </div>
        );
      })}
    </div>
  );
}

type Rows = Virtualizer<HTMLDivElement, HTMLDivElement>;

/** Only the rows in view exist; the active one always does, so that focus in it survives scrolling. */
function useVirtualRows(scroller: { current: HTMLDivElement | null }, count: number, active: number): Rows {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const kept = useRef(active);
  kept.current = active;
  const options = {
    count,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: OVERSCAN,
    paddingStart: HEADER,
    paddingEnd: FOOTER,
    scrollPaddingStart: HEADER,
    scrollPaddingEnd: FOOTER,
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    onChange: () => redraw(0),
    rangeExtractor: (r: { startIndex: number; endIndex: number; overscan: number; count: number }) => {
      const first = Math.max(0, r.startIndex - r.overscan);
      const last = Math.min(r.count - 1, r.endIndex + r.overscan);
      const indices = Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
      const keep = kept.current;
      if (keep >= 0 && keep < r.count && (keep < first || keep > last)) indices.push(keep);
      return indices;
    },
  };
  const [virtual] = useState(() => new Virtualizer<HTMLDivElement, HTMLDivElement>(options));
  virtual.setOptions(options);
  useLayoutEffect(() => virtual._didMount(), [virtual]);
  useLayoutEffect(() => virtual._willUpdate());
  return virtual;
}

function inView(virtual: Rows, index: number): boolean {
  const top = index * ROW_HEIGHT;
  const offset = virtual.scrollOffset ?? 0;
  return top >= offset && top + ROW_HEIGHT <= offset + (virtual.scrollRect?.height ?? 0) - HEADER - FOOTER;
}

const range = (order: readonly number[], a: number, b: number): number[] =>
  order.slice(Math.min(a, b), Math.max(a, b) + 1);

function largest(values: Float64Array): number {
  let most = 0;
  for (const value of values) if (value > most) most = value;
  return most || 1;
}
