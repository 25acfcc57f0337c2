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
  family: string;
  /** whether all families are listed, or the current one alone */
  whole: boolean;
  /** whether there is nothing to choose for: it keeps its place, but nobody sees it */
  away: ReadonlySignal<boolean>;
  label: ReadonlySignal<string | undefined>;
  tabIndex: ReadonlySignal<number>;
  choose(family: string): void;
}

/** Family of schemes for some weights; families none of them can take are greyed with the reason. */
export function SchemeSelect(props: SchemeSelectProps): VNode {
  const { costs, weights, held, family, whole, away, label, tabIndex, choose } = props;
  const listed = whole
    ? familiesFor(costs, weights.value, held.value)
    : costs.families.filter(({ key }) => key === family);
  return (
    <select
      class={useComputed(() => `tlr-select${away.value ? " is-away" : ""}`)}
      aria-label={label}
      tabIndex={tabIndex}
      value={family === "" ? "(mixed)" : family}
      onClick={(e) => e.stopPropagation()}
      onChange={(e) => choose(e.currentTarget.value)}
    >
      {family === "" && (
        <option value="(mixed)" disabled>
          mixed
        </option>
      )}
      {listed.map(({ key, label: name }) => {
        const legal = !whole || familyIsLegal(costs, weights.value, key, held.value);
        const reason = legal
          ? ""
          : reasonFor(costs, weights.value[0] ?? 0, familySchemes(costs, key)[0] ?? 0);
        return (
          <option key={key} value={key} disabled={!legal} title={reason}>
            {name}
          </option>
        );
      })}
    </select>
  );
}
