import { type ReadonlySignal, useComputed } from "@preact/signals";
import type { VNode } from "preact";
import type { Costs } from "../protocol";
import { familiesFor, familyIsLegal, familySchemes, reasonFor } from "../schemes";

export interface SchemeSelectProps {
  costs: Costs;
  weights: ReadonlySignal<ArrayLike<number>>;
  /** the plan at the start of the gesture */
  held: ReadonlySignal<Uint16Array>;
  /** current family key, "" when the weights differ */
  family: ReadonlySignal<string>;
  /** whether all families are listed, or the current one alone */
  whole: boolean;
  /** whether there is nothing to choose for: it keeps its place, but nobody sees it */
  away: ReadonlySignal<boolean>;
  label: ReadonlySignal<string | undefined>;
  tabIndex: ReadonlySignal<number>;
  choose(family: string): void;
}

const MIXED = "(mixed)";

/** Family of schemes for some weights; families none of them can take are greyed with the reason. */
export function SchemeSelect(props: SchemeSelectProps): VNode {
  const { family, whole, away, label, tabIndex, choose } = props;
  return (
    <select
      class={useComputed(() => `tlr-select${away.value ? " is-away" : ""}`)}
      aria-label={label}
      tabIndex={tabIndex}
      value={whole ? family.value || MIXED : undefined}
      onClick={(e) => e.stopPropagation()}
      onChange={(e) => choose(e.currentTarget.value)}
    >
      {whole ? <AllFamilies {...props} /> : <CurrentFamily {...props} />}
    </select>
  );
}

/** The only option, which a drag writes another family into: a row has no time for a list. */
function CurrentFamily({ costs, family }: SchemeSelectProps): VNode {
  const name = useComputed(() => costs.families.find(({ key }) => key === family.value)?.label ?? "mixed");
  return <option value={useComputed(() => family.value || MIXED)}>{name}</option>;
}

function AllFamilies({ costs, weights, held, family }: SchemeSelectProps): VNode {
  return (
    <>
      {family.value === "" && (
        <option value={MIXED} disabled>
          mixed
        </option>
      )}
      {familiesFor(costs, weights.value, held.value).map(({ key, label }) => {
        const legal = familyIsLegal(costs, weights.value, key, held.value);
        const reason = legal
          ? ""
          : reasonFor(costs, weights.value[0] ?? 0, familySchemes(costs, key)[0] ?? 0);
        return (
          <option key={key} value={key} disabled={!legal} title={reason}>
            {label}
          </option>
        );
      })}
    </>
  );
}
