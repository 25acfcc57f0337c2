import { useComputed, useSignalEffect } from "@preact/signals";
import type { VNode } from "preact";
import { useRef, useState } from "preact/hooks";
import * as format from "../format";
import { measuredOp } from "../measured";
import { largestOps, numbers } from "../opValues";
import type { Store } from "../store";
import { Fact } from "./facts";
import { counted } from "./several";

/** How many ops a list names. */
const LISTED = 5;

/** What is shown while nothing is selected: of what the model consists, and where its time and its bytes are. */
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
      <Largest store={store} column="latency" title="slowest ops" />
      <Largest store={store} column="size" title="largest ops" />
      <p class="tlr-muted tlr-details-hint">
        Select an op to see its numbers, the values of its weights and the code that made it.
      </p>
    </section>
  );
}

interface LargestProps {
  store: Store;
  column: "latency" | "size";
  title: string;
}

/** Once edits rest: it takes longer than a step of a drag has. */
const REST_MS = 200;

/** Something of the plan as it was when it last rested. */
function useRested<T>(store: Store, find: () => T): T {
  const [found, setFound] = useState(find);
  const first = useRef(true);
  useSignalEffect(() => {
    if (store.edits.gesturing.value) return undefined;
    store.prices.totals.value;
    store.measured.value;
    if (first.current) {
      first.current = false;
      return undefined;
    }
    const timer = setTimeout(() => setFound(find), REST_MS);
    return () => clearTimeout(timer);
  });
  return found;
}

/** The ops that take most, each a press away. */
function Largest({ store, column, title }: LargestProps): VNode {
  const values = useRested(store, () => numbers(store, column));
  const sum = values.reduce((all, value) => all + value, 0);
  const ops = largestOps(values, LISTED).filter((op) => values[op]! > 0);
  return (
    <div class="tlr-largest">
      <h4>{title}</h4>
      <ol>
        {ops.map((op) => (
          <li key={op}>
            <button
              type="button"
              title={store.program.value.modules.path[store.program.value.ops.module[op]!]}
              onClick={() => store.select([op], "outside")}
              onPointerEnter={() => store.hoverOp(op)}
              onPointerLeave={() => store.hoverOp(-1)}
            >
              <bdi class="tlr-ellipsis">{store.program.value.ops.name[op]}</bdi>
              <span class="tlr-largest-figure">
                {column === "size" ? format.bytes(values[op]!) : millisecondsOf(store, op, values[op]!)}
                <span class="tlr-muted">{` · ${format.share(values[op]!, sum)}`}</span>
              </span>
            </button>
          </li>
        ))}
      </ol>
    </div>
  );
}

function millisecondsOf(store: Store, op: number, ms: number): string {
  const sign = measuredOp(store, op) ? format.MEASURED : format.ABOUT;
  return `${sign}${format.milliseconds(ms)}${format.THIN}ms`;
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
