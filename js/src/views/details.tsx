import type { VNode } from "preact";
import { useEffect } from "preact/hooks";
import { failed } from "../details";
import * as format from "../format";
import type { Store } from "../store";
import { Distributions } from "./distribution";
import { Facts, KeyFacts } from "./facts";
import { Several } from "./several";
import { Source } from "./source";
import { WholeModel } from "./wholeModel";

interface DetailsProps {
  store: Store;
  /** whether the body is hidden, and what hides and shows it; undefined for a view of its own */
  closed?: boolean;
  toggle?: () => void;
}

/** Everything that is known about what is selected: one op, or several together. */
export function Details({ store, closed = false, toggle }: DetailsProps): VNode {
  const { ops } = store.selection.value;
  const only = ops.length === 1 ? ops[0]! : -1;
  return (
    <section class="tlr-details" aria-label="Details">
      <header class="tlr-details-head">
        {only >= 0 ? (
          <OpTitle store={store} op={only} />
        ) : (
          <strong>{ops.length === 0 ? "Whole model" : `${format.grouped(ops.length)} ops`}</strong>
        )}
        <span class="tlr-spacer" />
        {toggle && (
          <button
            type="button"
            class="tlr-details-toggle"
            aria-expanded={!closed}
            aria-label={closed ? "Show details" : "Hide details"}
            title={closed ? "Show details" : "Hide details"}
            onClick={toggle}
          >
            {closed ? "▴" : "▾"}
          </button>
        )}
      </header>
      {!closed && (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keys
        <div class="tlr-details-body" tabIndex={0} role="group" aria-label="Details of the selection">
          {only >= 0 ? (
            <OpDetails key={only} store={store} op={only} roomy={!toggle} />
          ) : ops.length > 0 ? (
            <Several store={store} />
          ) : (
            <WholeModel store={store} />
          )}
        </div>
      )}
    </section>
  );
}

function OpTitle({ store, op }: { store: Store; op: number }): VNode {
  const { ops } = store.program.value;
  return (
    <>
      <strong class="tlr-details-name tlr-ellipsis" title={ops.name[op]}>
        <bdi>{ops.name[op]}</bdi>
      </strong>
      <span class="tlr-muted tlr-details-type">{ops.opType[op]}</span>
    </>
  );
}

interface OpDetailsProps {
  store: Store;
  op: number;
  roomy: boolean;
}

function OpDetails({ store, op, roomy }: OpDetailsProps): VNode {
  const known = store.details.op(op);
  useEffect(() => store.details.wantOp(op));
  return (
    <div class="tlr-details-op">
      <div>
        <KeyFacts store={store} op={op} />
        <Distributions store={store} op={op} />
        {!known ? (
          <p class="tlr-muted tlr-details-wait">Source: waiting for the kernel</p>
        ) : failed(known) ? (
          <p class="tlr-muted tlr-details-wait">{known.message}</p>
        ) : (
          <Source frames={known.frames} open={roomy} />
        )}
      </div>
      <Facts store={store} op={op} />
    </div>
  );
}
