import { useSignalEffect } from "@preact/signals";
import { useCallback, useMemo, useRef, useState } from "preact/hooks";
import type { ColumnKey, TableColumn } from "../columns";
import { PICKS, type PickKey, passing, pickMask, searchMask, sortOps } from "../filters";
import { type Bins, binsOf } from "../histogram";
import type { HistoryState } from "../history";
import { numbers } from "../opValues";
import type { Costs } from "../protocol";
import { errorsKnown } from "../sqnr";
import type { Store } from "../store";

/** Histograms wait this long for the next edit: they are no part of a drag. */
const SETTLE_MS = 150;

/** Histograms of one plan, as far as they were counted, and what else they are of. */
interface Counted {
  plan: HistoryState;
  costs: Costs;
  measured: unknown;
  bins: Map<ColumnKey, Bins | null>;
}

/** Histograms of the columns that are shown or filtered by, as of the last edit. */
export function useBins(store: Store, columns: readonly TableColumn[]): ReadonlyMap<ColumnKey, Bins> {
  const costs = store.costs.value;
  const measured = store.measured.value;
  const wanted = new Set(columns.filter((c) => c.numeric).map((c) => c.key));
  for (const key of Object.keys(store.tableView.value.ranges)) wanted.add(key as ColumnKey);
  const keys = [...wanted].sort().join();
  const [plan, setPlan] = useState(() => store.edits.history.peek());
  const shown = useRef({ plan, wanted });
  shown.current = { plan, wanted };
  const ahead = useRef<Counted | null>(null);
  useSignalEffect(() => {
    // The steps of a drag do not even come here.
    if (store.edits.gesturing.value) return undefined;
    const next = store.edits.history.value;
    if (next === shown.current.plan) return undefined;
    // One column at a time: together they would be a long task where ops are many.
    const left = [...shown.current.wanted];
    const counted = {
      plan: next,
      costs: store.costs.peek(),
      measured: store.measured.peek(),
      bins: new Map<ColumnKey, Bins | null>(),
    };
    const count = (): void => {
      const key = left.pop();
      if (key === undefined) {
        ahead.current = counted;
        setPlan(next);
        return;
      }
      counted.bins.set(key, binsFor(store, key));
      timer = setTimeout(count);
    };
    let timer = setTimeout(count, SETTLE_MS);
    return () => clearTimeout(timer);
  });
  return useMemo(() => {
    const known = ahead.current;
    const holds = known?.plan === plan && known.costs === costs && known.measured === measured;
    const bins = new Map<ColumnKey, Bins>();
    for (const key of wanted) {
      const found = (holds && known.bins.get(key)) || binsFor(store, key);
      if (found) bins.set(key, found);
    }
    return bins;
  }, [store, costs, keys, plan, measured]);
}

const binsFor = (store: Store, key: ColumnKey): Bins | null =>
  binsOf(numbers(store, key), elsewhere(store, key));

/** Values that a column may come to have, so that its histogram keeps its place under edits. */
function elsewhere(store: Store, key: ColumnKey): Float64Array | undefined {
  if (key === "bits") return Float64Array.from(store.costs.peek().schemes, (s) => s.nbits);
  if (key === "size") return store.prices.loaded.opBytes.filter((bytes) => bytes > 0);
  if (key === "latency") return store.prices.loaded.opMs;
  return undefined;
}

export interface Shown {
  /** ops that are shown, in their order */
  order: Int32Array;
  /** ops that every filter but one menu's lets through */
  others(key: PickKey): Int32Array;
}

/**
 * What search, menus and ranges leave, sorted. Rows keep their place while values change under the pointer: found again
 * only when a person asks for other ones, or the device changes.
 */
export function useShown(store: Store, bins: ReadonlyMap<ColumnKey, Bins>): Shown {
  const program = store.program.value;
  const costs = store.costs.value;
  const { query, sort, ranges, picks } = store.tableView.value;
  // A table may come again with nothing but more errors in it, or more schemes.
  const errors = sort.some(({ key }) => key === "error") && errorsKnown(costs);
  const priced = `${costs.device} ${costs.computeUnit} ${errors}`;
  const sorted = useMemo(() => sortOps(store, sort), [store, program, priced, sort]);
  const search = useMemo(() => searchMask(program, query), [program, query]);
  const picked = useMemo(
    () => PICKS.flatMap((key) => (picks[key] ? [{ key, mask: pickMask(store, key, picks[key]) }] : [])),
    [store, program, priced, picks],
  );
  const between = useMemo(
    () =>
      Object.entries(ranges).flatMap(([key, range]) => {
        const found = bins.get(key as ColumnKey);
        return found ? [{ bins: found, range }] : [];
      }),
    // Not when only the histograms change: rows do not go while their values do.
    [program, priced, ranges],
  );
  const order = useMemo(
    () => passing(sorted, [search, ...picked.map(({ mask }) => mask)], between),
    [sorted, search, picked, between],
  );
  const others = useCallback(
    (key: PickKey) =>
      passing(
        sorted,
        [search, ...picked.filter((each) => each.key !== key).map(({ mask }) => mask)],
        between,
      ),
    [sorted, search, picked, between],
  );
  return { order, others };
}
