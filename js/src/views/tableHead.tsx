import type { VNode } from "preact";
import { type ColumnKey, nextSort, rangeText, type TableColumn, tooltip } from "../columns";
import { withRange } from "../filters";
import type { Bins } from "../histogram";
import type { Store } from "../store";
import { HeadHistogram } from "./headHistogram";

interface TableHeadProps {
  store: Store;
  columns: readonly TableColumn[];
  bins: ReadonlyMap<ColumnKey, Bins>;
  shown: Int32Array;
}

/** Names of the columns, which sort; over those of numbers, histograms, which filter. */
export function TableHead({ store, columns, bins, shown }: TableHeadProps): VNode {
  const view = store.tableView.value;
  const { sort, ranges } = view;
  return (
    <div class="tlr-head" role="row" aria-rowindex={1}>
      {columns.map((c) => {
        const at = sort.findIndex((s) => s.key === c.key);
        const direction = at < 0 ? "none" : sort[at]!.descending ? "descending" : "ascending";
        const bars = c.numeric ? bins.get(c.key) : undefined;
        const range = ranges[c.key];
        return (
          <div key={c.key} role="columnheader" aria-sort={direction} class={`tlr-cell tlr-cell-${c.key}`}>
            {bars && bars.counts.length > 1 && (
              <HeadHistogram
                column={c}
                bins={bars}
                shown={shown}
                range={range}
                change={(next) => {
                  store.tableView.value = withRange(store.tableView.peek(), c.key, next);
                }}
              />
            )}
            <button
              type="button"
              title={`${tooltip(store.program.value, c)}\nClick to sort, shift-click for a second key.`}
              onClick={(e) => {
                const now = store.tableView.peek();
                store.tableView.value = { ...now, sort: nextSort(now.sort, c, e.shiftKey) };
              }}
            >
              {c.title}
              <span class="tlr-sort" aria-hidden="true">
                {at < 0 ? "" : `${direction === "descending" ? "↓" : "↑"}${sort.length > 1 ? at + 1 : ""}`}
              </span>
              {range && bars && <span class="tlr-range">{rangeText(c.key, bars, range)}</span>}
            </button>
          </div>
        );
      })}
    </div>
  );
}
