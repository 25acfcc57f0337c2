import type { VNode } from "preact";
import type { Costs } from "../protocol";
import { familyIsLegal, familySchemes, reasonFor } from "../schemes";

export interface SchemeSelectProps {
  costs: Costs;
  weights: ArrayLike<number>;
  /** current family key, "" when the weights differ */
  family: string;
  label: string;
  tabIndex?: number;
  /** drawn as a button, where it stands alone */
  framed?: boolean;
  choose(family: string): void;
}

/** Family of schemes for some weights; families none of them can take are greyed with the reason. */
export function SchemeSelect({
  costs,
  weights,
  family,
  label,
  tabIndex = 0,
  framed,
  choose,
}: SchemeSelectProps): VNode {
  return (
    <select
      class={`tlr-select${framed ? " is-button" : ""}`}
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
      {costs.families.map(({ key, label: name }) => {
        const legal = familyIsLegal(costs, weights, key);
        const reason = legal ? "" : reasonFor(costs, weights[0] ?? 0, familySchemes(costs, key)[0] ?? 0);
        return (
          <option key={key} value={key} disabled={!legal} title={reason}>
            {name}
          </option>
        );
      })}
    </select>
  );
}
