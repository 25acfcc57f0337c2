import type { VNode } from "preact";
import { type Evaluated, evaluationOf, planError } from "../errors";
import * as format from "../format";
import { planIsExact } from "../sqnr";
import type { Store } from "../store";
import { Figure } from "./figure";

/**
 * What the plan costs in accuracy: one number with its grade. What was measured of this very plan, else the sum of what
 * `session.error` expects, else the errors of the weights.
 */
export function ErrorFigure({ store }: { store: Store }): VNode | null {
  const { scheme, int8 } = store.edits.history.value;
  const errors = store.errors.value;
  const evaluations = store.evaluations.value;
  const now = store.prices.totals.value;
  const measured = evaluationOf(evaluations, scheme, int8);
  const expected = errors ? planError(errors, scheme) : Number.NaN;
  if (measured) return <Measured measured={measured} expected={expected} what={errors?.what ?? ""} />;
  const last = evaluations[0];
  const beside = last
    ? `${format.MEASURED}${format.loss(last.value)} of another plan`
    : "not measured of this plan";
  if (errors) {
    const name = errors.metric === "" ? "" : `${nameOf(errors.metric)} `;
    const unknown = Number.isNaN(expected);
    return (
      <Figure
        name="Error"
        certainty={errors.grade}
        test="total-error"
        raw={expected}
        value={unknown ? "not known" : `${name}${expected === 0 ? "" : format.ABOUT}${format.loss(expected)}`}
        change=""
        better
        words={unknown ? "error not known for this plan" : `error ${format.loss(expected)}, ${errors.grade}`}
        below={unknown ? "of some of these schemes" : beside}
        title={[
          `${errors.what}, of each weight as it is stored, added up: 0 for no change, lower is better.`,
          "Errors of single weights add up well while they are small, and fall short when they are large.",
          "tnb.evaluate(session.plan, data) measures the plan as a whole.",
        ].join("\n")}
      />
    );
  }
  if (Number.isNaN(store.prices.baseline.value.weightError)) return null;
  const about = planIsExact(store.costs.value, scheme) ? "" : format.ABOUT;
  return (
    <Figure
      name="Error"
      certainty="of the weights"
      test="total-error"
      raw={now.weightError}
      value={about + format.decibels(now.weightError)}
      change=""
      better
      words={inWords(now.weightError)}
      below={Number.isNaN(now.weightError) ? "not known for this plan" : last ? beside : "signal to noise"}
      title={
        "Squares of all weights over the squares of what compression changes in them, in decibels: more is better.\n" +
        "It grades the weights, not the model's output, which is more sensitive to some weights than to others.\n" +
        "session.error = tnb.sensitivity(model, data) shows an estimate of the output's error here."
      }
    />
  );
}

function Measured({
  measured,
  expected,
  what,
}: {
  measured: Evaluated;
  expected: number;
  what: string;
}): VNode {
  const groups = Object.entries(measured.values);
  return (
    <Figure
      name="Error"
      certainty="measured"
      test="total-error"
      raw={measured.value}
      value={`${format.MEASURED}${nameOf(measured.metric)} ${format.loss(measured.value)}`}
      change=""
      better
      words={`${measured.metric} ${format.loss(measured.value)}, measured`}
      below={Number.isNaN(expected) ? "of this plan" : `estimated ${format.ABOUT}${format.loss(expected)}`}
      title={[
        `${measured.metric}, measured by tnb.evaluate of this very plan, weights dequantized`,
        ...groups.filter(() => groups.length > 1).map(([group, value]) => `${group}: ${format.loss(value)}`),
        ...(Number.isNaN(expected) ? [] : [`estimated: ${format.loss(expected)}, ${what}`]),
      ].join("\n")}
    />
  );
}

/** As people write it: those that are initials in capitals, functions by their own name. */
const nameOf = (metric: string): string => (/^(kl|mse)$/.test(metric) ? metric.toUpperCase() : metric);

function inWords(noiseToSignal: number): string {
  if (Number.isNaN(noiseToSignal)) return "weight error not known for this plan";
  if (noiseToSignal === 0) return "no weight error";
  return `signal to noise of the weights ${format.decibels(noiseToSignal)}`;
}
