import { type ReadonlySignal, useComputed } from "@preact/signals";
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { budgetHint, budgetText, budgetUse, type Metric, parseBudget } from "../budgets";
import type { Store } from "../store";

/** What a figure says of the plan. */
export interface Said {
  raw: number;
  value: string;
  change: string;
  better: boolean;
  /** the same for whoever hears it read */
  words: string;
  below: string;
  title: string;
  /** part of the baseline, 0 to 1, for a meter where there is no budget */
  part?: number;
}

interface FigureProps {
  store: Store;
  name: string;
  certainty: string;
  test: string;
  said: ReadonlySignal<Said>;
  /** what there can be a budget of */
  metric?: Metric;
  /** whether what is below is how well the number is known, which a budget does not hide */
  interval?: boolean;
  /** whether what is below is in the title, too, and goes where there is little room */
  aside?: boolean;
  /** whether budgets are set here */
  sets?: boolean;
}

/**
 * One total: what it is, how it is known, what it was and is, and how much of its budget that takes. A drag is written
 * through signals into elements that stay.
 */
export function Figure({
  store,
  name,
  certainty,
  test,
  said,
  metric,
  interval,
  aside,
  sets,
}: FigureProps): VNode {
  const { calm } = store.prices;
  const most = metric && store.budgets.value[metric];
  const raw = useComputed(() => said.value.raw);
  // Nobody can listen to sixty figures a second.
  const words = useComputed(() => {
    if (!store.edits.gesturing.value) return said.value.words;
    calm.value;
    return said.peek().words;
  });
  const measures = useComputed(() => said.value.part !== undefined).value;
  const below = useComputed(() => said.value.below);
  return (
    <div class="tlr-figure" title={useComputed(() => said.value.title)}>
      <div class="tlr-figure-name">
        {name} <span class="tlr-certainty">{certainty}</span>
      </div>
      <div class="tlr-figure-value">
        <span data-testid={test} data-value={raw}>
          {useComputed(() => said.value.value)}
        </span>
        <span
          class={useComputed(() => `tlr-change ${said.value.better ? "is-better" : "is-worse"}`)}
          aria-hidden="true"
        >
          {useComputed(() => said.value.change)}
        </span>
        <span class="tlr-sr">{words}</span>
      </div>
      {(most !== undefined || measures) && <Meter store={store} said={said} metric={metric} />}
      <div class="tlr-figure-below">
        {metric && (most !== undefined || sets) && <BudgetLine store={store} metric={metric} now={raw} />}
        {(most === undefined || interval) && <span class={aside ? "tlr-figure-aside" : ""}>{below}</span>}
      </div>
    </div>
  );
}

interface MeterProps {
  store: Store;
  said: ReadonlySignal<Said>;
  metric: Metric | undefined;
}

/** How much of a budget is used, or of the baseline where there is none. */
function Meter({ store, said, metric }: MeterProps): VNode {
  const most = useComputed(() => metric && store.budgets.value[metric]);
  const look = useComputed(() => {
    const over = most.value !== undefined && said.value.raw > most.value;
    return `tlr-meter${over ? " is-over" : ""}`;
  });
  const length = useComputed(() => {
    const filled = most.value ? said.value.raw / most.value : (said.value.part ?? 0);
    return `background-size:${(100 * Math.min(1, Math.max(0, filled))).toFixed(2)}%`;
  });
  return <div class={look} style={length} />;
}

interface BudgetLineProps {
  store: Store;
  metric: Metric;
  now: ReadonlySignal<number>;
}

/** How much of a budget is used, in words; a click opens a field for it, or for one of anything else. */
function BudgetLine({ store, metric, now }: BudgetLineProps): VNode {
  const [text, setText] = useState<string | null>(null);
  const [wrong, setWrong] = useState(false);
  const most = store.budgets.value[metric];
  const over = useComputed(() => now.value > (store.budgets.value[metric] ?? Number.POSITIVE_INFINITY));
  const look = useComputed(() => `tlr-budget${over.value ? " is-over" : ""}`);
  const use = useComputed(() => {
    const all = store.budgets.value[metric];
    return all === undefined ? "set a budget" : budgetUse(metric, now.value, all);
  });
  const title = useComputed(() =>
    store.budgets.value[metric] === undefined
      ? "The most that the plan should take: 4 MB, 5 ms, 2 mJ or 3.6 bits"
      : `${use.value}. Press to change it; empty takes it away.`,
  );
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
        class={look}
        title={title}
        onClick={() => setText(most === undefined ? "" : budgetText(metric, most))}
      >
        {use}
      </button>
    );
  const field = (
    <input
      class={`tlr-budget-field${wrong ? " is-wrong" : ""}`}
      type="text"
      aria-label="Budget"
      aria-invalid={wrong}
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
  return (
    <>
      {field}
      {wrong && (
        <span class="tlr-budget-hint tlr-error" role="alert">
          {budgetHint(text)}
        </span>
      )}
    </>
  );
}
