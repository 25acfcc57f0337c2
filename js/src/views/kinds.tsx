import type { VNode } from "preact";
import { useMemo } from "preact/hooks";
import type { Costs } from "../protocol";
import { familiesFor, familyIsLegal, familySchemes, kindOf, reasonFor } from "../schemes";

interface KindProps {
  costs: Costs;
  weights: ArrayLike<number>;
  /** the plan at the start of the gesture */
  held: Uint16Array;
  /** the kind that they are stored as now, or "" where they differ */
  kind: string;
  /** key of the family that the weights share, or "" */
  family: string;
  label: string;
  choose(family: string): void;
}

interface Option {
  family: string;
  kind: string;
  grain: string;
  legal: boolean;
  reason: string;
}

/** What the menu offers for these weights, the same throughout a gesture; what none of them can take has the reason. */
function useOptions({ costs, weights, held }: KindProps): Option[] {
  return useMemo(
    () =>
      familiesFor(costs, weights, held).map(({ key, label }) => {
        const [kind, grain] = kindOf(label);
        const legal = familyIsLegal(costs, weights, key, held);
        const reason = legal ? "" : reasonFor(costs, weights[0] ?? 0, familySchemes(costs, key)[0] ?? 0);
        return { family: key, kind, grain, legal, reason };
      }),
    [costs, weights, held],
  );
}

const labelOf = (costs: Costs, family: string): string =>
  costs.families.find(({ key }) => key === family)?.label ?? "";

/** How weights are stored, whatever the groups: palettes, integers, sparse. */
export function KindSelect(props: KindProps): VNode {
  const { costs, family, label, choose } = props;
  const options = useOptions(props);
  const now = props.kind || kindOf(labelOf(costs, family))[0];
  const [, grain] = kindOf(labelOf(costs, family));
  return (
    <select
      class="tlr-select is-button"
      aria-label={label}
      value={now === "" ? "(mixed)" : now}
      onChange={(e) => {
        const of = options.filter((o) => o.kind === e.currentTarget.value && o.legal);
        const next = of.find((o) => o.grain === grain) ?? of[0];
        if (next) choose(next.family);
      }}
    >
      {now === "" && (
        <option value="(mixed)" disabled>
          mixed
        </option>
      )}
      {[...new Set(options.map((o) => o.kind))].map((kind) => {
        const of = options.filter((o) => o.kind === kind);
        const legal = of.some((o) => o.legal);
        return (
          <option key={kind} value={kind} disabled={!legal} title={legal ? "" : of[0]!.reason}>
            {kind}
          </option>
        );
      })}
    </select>
  );
}

/** Which elements share a table or a scale, where a kind leaves a choice; there without one too, so that nothing moves. */
export function GrainSelect(props: KindProps): VNode {
  const { kind, family, label, choose } = props;
  const options = useOptions(props).filter((o) => o.kind === kind);
  const choice = options.length > 1;
  return (
    <label class="tlr-sliders-grain">
      <span class="tlr-muted tlr-sliders-more">group</span>
      <select
        class="tlr-select is-button"
        aria-label={label}
        disabled={!choice}
        value={family === "" || !choice ? "(none)" : family}
        onChange={(e) => choose(e.currentTarget.value)}
      >
        {(family === "" || !choice) && (
          <option value="(none)" disabled>
            {choice ? "mixed" : "–"}
          </option>
        )}
        {(choice ? options : []).map((o) => (
          <option key={o.family} value={o.family} disabled={!o.legal} title={o.reason}>
            {o.grain === "" ? "per tensor" : o.grain.replace(/^groups? (of )?/, "")}
          </option>
        ))}
      </select>
    </label>
  );
}
