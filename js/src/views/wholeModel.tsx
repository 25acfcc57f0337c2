import { useComputed } from "@preact/signals";
import type { VNode } from "preact";
import * as format from "../format";
import type { Store } from "../store";
import { Fact } from "./facts";
import { counted } from "./several";

/** What is shown while nothing is selected: of what the model consists, whatever the plan. */
export function WholeModel({ store }: { store: Store }): VNode {
  const facts = useComputed(() => factsOf(store)).value;
  return (
    <section class="tlr-details-part" aria-label="Numbers of the model">
      <dl class="tlr-facts-list">
        <Fact name="op types" wide title="Exact.">
          {facts.types}
        </Fact>
        <Fact name="ops on" wide title="Expected by rules that were observed.">
          {`${format.ABOUT}${facts.units}`}
        </Fact>
        <Fact name="weights" wide title={`${format.grouped(facts.elements)} values, exact`}>
          {`${format.quantity(facts.elements)} values in ${format.plural(facts.weights, "tensor")}`}
        </Fact>
        <Fact name="FLOPs" wide title={`${format.grouped(facts.flops)}, exact: counted from shapes`}>
          {`${format.flops(facts.flops)} a prediction`}
        </Fact>
      </dl>
      <p class="tlr-muted tlr-details-hint">
        Select an op in the table or the graph to see its numbers, the values of its weights and the code that
        made it.
      </p>
    </section>
  );
}

function factsOf(store: Store) {
  const { ops, weights } = store.program.value;
  const { units, unit } = store.costs.value;
  return {
    types: counted(ops.opType),
    units: counted(Array.from(unit, (u) => units[u] ?? "")),
    weights: weights.count,
    elements: weights.elements.reduce((sum, n) => sum + n, 0),
    flops: ops.flops.reduce((sum, n) => sum + n, 0),
  };
}
