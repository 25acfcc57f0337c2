import { useComputed } from "@preact/signals";
import type { VNode } from "preact";
import { type Errors, evaluationOf, type PlanLoss, planLoss } from "../errors";
import * as format from "../format";
import { planIsExact } from "../sqnr";
import type { Store } from "../store";
import { Figure, type Said } from "./figure";

interface ErrorSaid extends Said {
  /** the grade; "" where no error of anything is known */
  certainty: string;
}

const NOTHING = { raw: Number.NaN, value: "", change: "", better: true, words: "", below: "", title: "" };

/**
 * What the plan costs in accuracy: one number with its grade. What was measured of this very plan, else what
 * `session.error` expects of it as a whole, else the errors of the weights.
 */
export function ErrorFigure({ store }: { store: Store }): VNode | null {
  const said = useComputed(() => errorOf(store));
  const certainty = useComputed(() => said.value.certainty).value;
  if (certainty === "") return null;
  return <Figure store={store} name="Error" certainty={certainty} test="total-error" said={said} />;
}

function errorOf(store: Store): ErrorSaid {
  const { scheme, int8 } = store.edits.history.value;
  const errors = store.errors.value;
  const evaluations = store.evaluations.value;
  const now = store.prices.totals.value.weightError;
  const measured = evaluationOf(evaluations, scheme, int8);
  const loss = errors ? planLoss(errors, store.composed.value, scheme) : UNKNOWN;
  const expected = loss.value;
  const base = store.compared.value;
  const against = store.baselineName.value;
  if (measured) {
    const groups = Object.entries(measured.values);
    const was = base && evaluationOf(evaluations, base.scheme, base.int8);
    const change = changeOf(was?.metric === measured.metric ? was.value : 0, measured.value, against);
    return {
      ...NOTHING,
      ...(measured.isLoss ? change.signs : NOTHING_CHANGED),
      certainty: "measured",
      raw: measured.value,
      value: `${format.MEASURED}${nameOf(measured.metric)} ${change.before}${format.loss(measured.value)}`,
      words: `${measured.metric} ${format.loss(measured.value)}, measured${measured.isLoss ? change.words : ""}`,
      // The title says it too: beside a change there is no room for more.
      below:
        change.before !== ""
          ? ""
          : Number.isNaN(expected)
            ? "of this plan"
            : `estimated ${format.ABOUT}${format.loss(expected)}`,
      title: [
        `${measured.metric}, measured by tnb.evaluate of this very plan, weights dequantized`,
        ...groups.filter(() => groups.length > 1).map(([group, value]) => `${group}: ${format.loss(value)}`),
        ...(errors && !Number.isNaN(expected)
          ? [`estimated: ${format.ABOUT}${format.loss(expected)}, ${errors.what}. ${obtained(errors, loss)}`]
          : []),
      ].join("\n"),
    };
  }
  const last = evaluations[0];
  const beside = last
    ? `${format.MEASURED}${format.loss(last.value)} of another plan`
    : "not measured of this plan";
  if (errors) {
    const name = errors.metric === "" ? "" : `${nameOf(errors.metric)} `;
    const unknown = Number.isNaN(expected);
    const was = base ? planLoss(errors, store.composed.value, base.scheme).value : 0;
    const change = changeOf(was, expected, against);
    const about = expected === 0 && change.before === "" ? "" : format.ABOUT;
    return {
      ...NOTHING,
      ...change.signs,
      certainty: errors.grade,
      raw: expected,
      value: unknown ? "not known" : `${name}${about}${change.before}${format.loss(expected)}`,
      words: unknown
        ? "error not known for this plan"
        : `error ${format.loss(expected)}, ${errors.grade}${change.words}`,
      below: unknown ? "of some of these schemes" : change.before !== "" ? "" : beside,
      title: [
        `${errors.what}: 0 for no change, lower is better. ${obtained(errors, loss)}`,
        ...(store.edits.int8.value.some((flag) => flag)
          ? ["What int8 activations do to outputs is not in it."]
          : []),
        `tnb.evaluate(session.plan, data) measures the plan as a whole; ${beside}.`,
      ].join("\n"),
    };
  }
  if (store.program.value.weights.count === 0) return { ...NOTHING, certainty: "" };
  if (Number.isNaN(now)) {
    const { short, title } = store.unknownError.value;
    return {
      ...NOTHING,
      certainty: "of the weights",
      value: short,
      words: `weight error ${short}`,
      below: last ? beside : "",
      title,
    };
  }
  return {
    ...NOTHING,
    certainty: "of the weights",
    raw: now,
    value: (planIsExact(store.costs.value, scheme) ? "" : format.ABOUT) + format.decibels(now),
    words: inWords(now),
    below: last ? beside : measureOf(now),
    title:
      "Squares of all weights over the squares of what compression changes in them, in decibels: more is better.\n" +
      "It grades the weights, not the model's output, which is more sensitive to some weights than to others.\n" +
      "session.error = tnb.sensitivity(model, data) shows an estimate of the output's error here.",
  };
}

const UNKNOWN: PlanLoss = { value: Number.NaN, sum: Number.NaN, how: "summed" };

/** How that number came about. */
function obtained(errors: Errors, { value, sum, how }: PlanLoss): string {
  const alone = `The sum of the errors of its weights, which Optimize makes least, is ${format.ABOUT}${format.loss(sum)}.`;
  if (how === "composed")
    return `What weights do to the outputs alone, composed in the order of execution, for this very plan.\n${alone}`;
  if (how === "followed")
    return (
      `Followed from the nearest plan that was composed: the sum of errors, ${format.ABOUT}${format.loss(sum)}, ` +
      `times ${format.digits(value / sum)}, what composing made of that plan's sum.\n` +
      "Python composes this one once edits rest, if the kernel is there and free."
    );
  return (
    "Of each weight as it is stored, added up.\n" +
    (errors.composes && sum > 0
      ? "Python composes what weights do together, which comes closer, once edits rest, if the kernel is there and free."
      : "Errors of single weights add up well while they are small, and fall short when they are large.")
  );
}

const measureOf = (noiseToSignal: number): string =>
  noiseToSignal === 0 ? "no weight is changed" : "signal to noise";

const NOTHING_CHANGED = { change: "", better: true };

/** What is said beside a loss where the baseline has one of the same measure, and not none at all. */
function changeOf(
  was: number,
  now: number,
  against: string,
): { before: string; signs: Pick<Said, "change" | "better">; words: string } {
  if (!(was > 0) || Number.isNaN(now)) return { before: "", signs: NOTHING_CHANGED, words: "" };
  const before = format.loss(was);
  return {
    before: before === format.loss(now) ? "" : `${before} ${format.ARROW} `,
    signs: { change: format.percentChange(was, now), better: now < was },
    words: `, ${format.changeInWords(was, now, "less", "more")} than ${against}`,
  };
}

/** As people write it: those that are initials in capitals, functions by their own name. */
const nameOf = (metric: string): string => (/^(kl|mse)$/.test(metric) ? metric.toUpperCase() : metric);

function inWords(noiseToSignal: number): string {
  if (noiseToSignal === 0) return "no weight error";
  return `signal to noise of the weights ${format.decibels(noiseToSignal)}`;
}
