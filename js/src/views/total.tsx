import { computed, type ReadonlySignal } from "@preact/signals";
import type { VNode } from "preact";
import { useMemo, useState } from "preact/hooks";
import type { TableColumn } from "../columns";
import type { Priced } from "../estimate";
import * as format from "../format";
import type { Costs } from "../protocol";
import { type Noise, noiseCertainty, noiseText, ratioOf } from "../sqnr";
import type { Store } from "../store";

type Scope = "all" | "shown" | "selected";

interface Sums {
  bytes: number;
  bits: number;
  ms: number;
  /** null without weights */
  noise: Noise | null;
}

const NOTHING: Sums = { bytes: 0, bits: 0, ms: 0, noise: null };

interface TotalRowProps {
  store: Store;
  columns: readonly TableColumn[];
  shown: ArrayLike<number>;
  filtered: boolean;
}

/** Sums over all, the shown or the selected ops; follows what the person does unless one was chosen. */
export function TotalRow({ store, columns, shown, filtered }: TotalRowProps): VNode {
  const [chosen, choose] = useState<Scope | null>(null);
  const selected = store.selection.value.ops;
  const usable = (scope: Scope): boolean =>
    scope === "all" || (scope === "shown" ? filtered : selected.length > 0);
  const automatic: Scope = selected.length > 0 ? "selected" : filtered ? "shown" : "all";
  const scope = chosen && usable(chosen) ? chosen : automatic;
  const count = store.program.value.ops.count;
  const scopes: [Scope, string, number][] = [
    ["all", "All", count],
    ["shown", "Shown", shown.length],
    ["selected", "Selected", selected.length],
  ];
  const leading = columns.findIndex((c) => c.key === "bits");
  return (
    <div class="tlr-total" role="row" aria-rowindex={shown.length + 2}>
      <div class="tlr-cell tlr-total-scopes" role="rowheader" style={{ gridColumn: `1 / ${leading + 1}` }}>
        {scopes.map(([key, title, n]) => (
          <button
            key={key}
            type="button"
            aria-pressed={scope === key}
            disabled={!usable(key)}
            title={`Sum over ${title.toLowerCase()} ops`}
            onClick={() => choose(key)}
          >
            {title} {format.grouped(n)}
          </button>
        ))}
      </div>
      <Figures
        store={store}
        columns={columns.slice(leading)}
        ops={scope === "all" ? null : scope === "shown" ? shown : selected}
      />
    </div>
  );
}

function Figures({
  store,
  columns,
  ops,
}: {
  store: Store;
  columns: readonly TableColumn[];
  ops: ArrayLike<number> | null;
}): VNode {
  const costs = store.costs.value;
  // The ops are fixed while one drags, so which weights they read and what they cost in the baseline is found once.
  const weights = useMemo(() => store.weightsOf(ops ?? []), [store, costs, ops]);
  const none = ops !== null && ops.length === 0;
  const was = useMemo(
    () => (none ? NOTHING : sum(costs, weights, ops, store.prices.base)),
    [store, costs, weights, ops, none, store.prices.baseline.value],
  );
  const { text, title } = useMemo(() => {
    const now = computed(() => {
      store.prices.totals.value;
      return none ? NOTHING : sum(costs, weights, ops, store.prices.live);
    });
    return { text: textOf(store, was, now), title: titleOf(store, was, now) };
  }, [store, costs, weights, ops, none, was]);
  return (
    <>
      {columns.map((c) => (
        <div key={c.key} role="gridcell" class={`tlr-cell tlr-cell-${c.key}`} title={title[c.key]}>
          <span class="tlr-text">{text[c.key]}</span>
        </div>
      ))}
    </>
  );
}

/** What stands below each column, written by a drag into elements that stay. */
const textOf = (
  store: Store,
  was: Sums,
  now: ReadonlySignal<Sums>,
): Record<string, ReadonlySignal<string>> => ({
  bits: computed(() => (now.value.bits > 0 ? format.inBits(now.value.bits) : "")),
  size: computed(() => format.bytesChange(was.bytes, now.value.bytes)),
  error: computed(() => noiseText(now.value.noise, store.unknownError.value)),
  latency: computed(() => {
    const [a, b] = [format.milliseconds(was.ms), format.milliseconds(now.value.ms)];
    return `${format.ABOUT}${a === b ? b : `${a} ${format.ARROW} ${b}`}`;
  }),
});

const titleOf = (
  store: Store,
  was: Sums,
  now: ReadonlySignal<Sums>,
): Record<string, string | ReadonlySignal<string>> => ({
  bits: "Stored bits over elements, for the weights these ops read",
  size: computed(
    () =>
      `${format.exactBytes(now.value.bytes)} of weights, each counted once; ${store.baselineName.value}: ${format.exactBytes(was.bytes)}`,
  ),
  error: computed(() => {
    const { noise } = now.value;
    const certainty = noise ? `\n${noiseCertainty(noise, store.unknownError.value)}` : "";
    return `Signal to noise of the weights these ops read, each counted once; it grades the weights, not the model's output.${certainty}`;
  }),
  latency: `Sum over the ops, without ${format.ABOUT}${format.milliseconds(store.costs.peek().dispatchMs)} ms to dispatch the whole model; estimated`,
});

function sum(costs: Costs, weights: ArrayLike<number>, ops: ArrayLike<number> | null, priced: Priced): Sums {
  let [bytes, elements, ms, error, squares] = [0, 0, 0, 0, 0];
  let exact = true;
  for (let i = 0; i < weights.length; i++) {
    const w = weights[i]!;
    bytes += priced.weightBytes[w]!;
    elements += costs.elements[w]!;
    error += priced.weightSquares[w]!;
    squares += costs.signal[w]!;
    if (costs.exactError[priced.scheme[w]!] !== 1) exact = false;
  }
  if (ops) for (let i = 0; i < ops.length; i++) ms += priced.opMs[ops[i]!]!;
  // By index: an iterator would make an object of every number.
  else for (let op = 0; op < priced.opMs.length; op++) ms += priced.opMs[op]!;
  const noise = weights.length === 0 ? null : { ratio: ratioOf(error, squares), exact };
  return { bytes, bits: elements > 0 ? (8 * bytes) / elements : 0, ms, noise };
}
