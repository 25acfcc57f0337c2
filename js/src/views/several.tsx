import { useComputed } from "@preact/signals";
import type { VNode } from "preact";
import { BOUNDS } from "../estimate";
import * as format from "../format";
import { weightsNoise } from "../sqnr";
import type { Store } from "../store";
import { ErrorFact, Fact } from "./facts";

/** Names of a kind that are written out; the rest is counted. */
const NAMED = 4;

/** Several ops together: what they add up to, and what they are. */
export function Several({ store }: { store: Store }): VNode {
  const kinds = useComputed(() => kindsOf(store)).value;
  const { totals, noise } = sums(store);
  const [msBefore, msAfter] = [format.milliseconds(totals.msBefore), format.milliseconds(totals.msAfter)];
  const bits = (bytes: number): string => format.bits((8 * bytes) / Math.max(1, totals.elements));
  const [bitsBefore, bitsAfter] = [bits(totals.bytesBefore), bits(totals.bytesAfter)];
  const was = `against ${store.baselineName.value}`;
  return (
    <section class="tlr-details-part" aria-label="Numbers of all selected ops">
      <dl class="tlr-facts-list">
        <Fact
          name="weights"
          title={`${format.exactBytes(totals.bytesAfter)}, exact; ${was}: ${format.exactBytes(totals.bytesBefore)}`}
        >
          {totals.elements === 0 ? "none" : format.bytesChange(totals.bytesBefore, totals.bytesAfter)}
        </Fact>
        <Fact name="bits each" title={`Exact, tables and scales included; ${was}`}>
          {totals.elements === 0
            ? "–"
            : bitsBefore === bitsAfter
              ? bitsAfter
              : `${bitsBefore} ${format.ARROW} ${bitsAfter}`}
        </Fact>
        <Fact name="latency" title={`Estimated, without what a prediction costs once; ${was}`}>
          {`${format.ABOUT}${msBefore === msAfter ? "" : `${msBefore} ${format.ARROW} `}${msAfter}${format.THIN}ms`}
        </Fact>
        <Fact name="FLOPs" title={`${format.grouped(totals.flops)}, exact`}>
          {format.flops(totals.flops)}
        </Fact>
        <Fact name="in and out" title={`${format.exactBytes(totals.activations)}, exact`}>
          {format.bytes(totals.activations)}
        </Fact>
        <ErrorFact store={store} noise={noise} of="these weights" />
        <Fact name="op types" wide>
          {kinds.types}
        </Fact>
        <Fact name="ops on" wide title="Expected by rules that were observed.">
          {kinds.units}
        </Fact>
        <Fact name="bound by" wide title="Estimated.">
          {boundsOf(store)}
        </Fact>
        <Fact name="schemes" wide>
          {schemesOf(store)}
        </Fact>
      </dl>
    </section>
  );
}

function sums(store: Store) {
  store.prices.calm.value;
  store.prices.baseline.value;
  const { base, live } = store.prices;
  const { ops } = store.program.value;
  const costs = store.costs.value;
  const selected = store.selection.value.ops;
  const totals = {
    bytesBefore: 0,
    bytesAfter: 0,
    msBefore: 0,
    msAfter: 0,
    flops: 0,
    activations: 0,
    elements: 0,
  };
  for (const op of selected) {
    totals.msBefore += base.opMs[op]!;
    totals.msAfter += live.opMs[op]!;
    totals.flops += ops.flops[op]!;
    totals.activations += ops.activationBytes[op]!;
  }
  const weights = selected.length > 0 ? store.weightsOf(selected) : [];
  for (let i = 0; i < weights.length; i++) {
    const w = weights[i]!;
    totals.bytesBefore += base.weightBytes[w]!;
    totals.bytesAfter += live.weightBytes[w]!;
    totals.elements += costs.elements[w]!;
  }
  return { totals, noise: weightsNoise(costs, store.edits.history.peek().scheme, weights) };
}

/** "12 linear, 4 add and 3 others", the most frequent first. */
export function counted(names: Iterable<string>): string {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  const all = [...counts].sort((a, b) => b[1] - a[1]);
  const rest = all.slice(NAMED).reduce((sum, [, n]) => sum + n, 0);
  const named = all.slice(0, NAMED).map(([name, n]) => `${format.grouped(n)} ${name}`);
  return (rest > 0 ? [...named, format.plural(rest, "other")] : named).join(", ") || "none";
}

function kindsOf(store: Store): { types: string; units: string } {
  const { opType } = store.program.value.ops;
  const { units, unit } = store.costs.value;
  const { ops } = store.selection.value;
  return {
    types: counted(ops.map((op) => opType[op]!)),
    units: counted(ops.map((op) => units[unit[op]!] ?? "")),
  };
}

function boundsOf(store: Store): string {
  store.prices.calm.value;
  return counted(store.selection.value.ops.map((op) => BOUNDS[store.prices.live.bound[op]!]!));
}

function schemesOf(store: Store): string {
  store.prices.calm.value;
  const { schemes } = store.costs.value;
  const { scheme } = store.edits.history.peek();
  const weights = store.weightsOf(store.selection.value.ops);
  return counted(Array.from(weights, (w) => schemes[scheme[w]!]!.label));
}
