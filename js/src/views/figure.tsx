import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { budgetText, budgetUse, type Metric, parseBudget } from "../budgets";
import type { Store } from "../store";

export interface FigureProps {
  name: string;
  certainty: string;
  test: string;
  raw: number;
  value: string;
  change: string;
  better: boolean;
  words: string;
  below: string;
  title: string;
  /** what there can be a budget of */
  budget?: { store: Store; metric: Metric };
  /** part of the baseline, 0 to 1, for a meter where there is no budget */
  part?: number;
  /** whether what is below is how well the number is known, which a budget does not hide */
  interval?: boolean;
  /** whether what is below is in the title, too, and goes where there is little room */
  aside?: boolean;
  /** whether budgets are set here */
  sets?: boolean;
}

/** One total: what it is, how it is known, what it was and is, and how much of its budget that takes. */
export function Figure(props: FigureProps): VNode {
  const { budget, raw, part, sets } = props;
  const most = budget?.store.budgets.value[budget.metric];
  const filled = most ? raw / most : part;
  return (
    <div class="tlr-figure" title={props.title}>
      <div class="tlr-figure-name">
        {props.name} <span class="tlr-certainty">{props.certainty}</span>
      </div>
      <div class="tlr-figure-value">
        <span data-testid={props.test} data-value={raw}>
          {props.value}
        </span>
        <span class={`tlr-change ${props.better ? "is-better" : "is-worse"}`} aria-hidden="true">
          {props.change}
        </span>
        <span class="tlr-sr">{props.words}</span>
      </div>
      {filled !== undefined && (
        <div
          class={`tlr-meter${most && raw > most ? " is-over" : ""}`}
          style={{ backgroundSize: `${(100 * Math.min(1, Math.max(0, filled))).toFixed(2)}%` }}
        />
      )}
      <div class="tlr-figure-below">
        {budget && (most !== undefined || sets) && <BudgetLine {...budget} now={raw} most={most} />}
        {(most === undefined || props.interval) && (
          <span class={props.aside ? "tlr-figure-aside" : ""}>{props.below}</span>
        )}
      </div>
    </div>
  );
}

interface BudgetLineProps {
  store: Store;
  metric: Metric;
  now: number;
  most: number | undefined;
}

/** How much of a budget is used, in words; a click opens a field for it, or for one of anything else. */
function BudgetLine({ store, metric, now, most }: BudgetLineProps): VNode {
  const [text, setText] = useState<string | null>(null);
  const [wrong, setWrong] = useState(false);
  const done = (): void => {
    setText(null);
    setWrong(false);
  };
  const take = (written: string): void => {
    if (written.trim() === "") {
      store.setBudget(metric, null);
      done();
      return;
    }
    const found = parseBudget(written, store.program.peek().budgetUnits);
    if (!found) {
      setWrong(true);
      return;
    }
    store.setBudget(found[0], found[1]);
    done();
  };
  if (text === null)
    return (
      <button
        type="button"
        class={`tlr-budget${most !== undefined && now > most ? " is-over" : ""}`}
        title={
          most === undefined
            ? "The most that the plan should take: 4 MB, 5 ms, 2 mJ or 3.6 bits"
            : "Change the budget; empty takes it away"
        }
        onClick={() => setText(most === undefined ? "" : budgetText(metric, most))}
      >
        {most === undefined ? "set a budget" : budgetUse(metric, now, most)}
      </button>
    );
  return (
    <input
      class={`tlr-budget-field${wrong ? " is-wrong" : ""}`}
      type="text"
      aria-label="Budget"
      aria-invalid={wrong}
      title={wrong ? "Write a number and a unit: 4 MB, 5 ms, 2 mJ or 3.6 bits" : undefined}
      placeholder="4 MB, 5 ms, 2 mJ, 3.6 bits"
      value={text}
      ref={(el) => {
        if (el && document.activeElement !== el && !wrong) el.focus({ preventScroll: true });
      }}
      onInput={(e) => {
        setText(e.currentTarget.value);
        setWrong(false);
      }}
      onBlur={done}
      onKeyDown={(e) => {
        if (e.key === "Enter") take(e.currentTarget.value);
        else if (e.key === "Escape") done();
        else return;
        e.preventDefault();
        e.stopPropagation();
      }}
    />
  );
}
