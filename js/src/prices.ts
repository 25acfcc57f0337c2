/** What the plan, what it is compared with, and the model as it was loaded come to. */

import { type ReadonlySignal, type Signal, signal } from "@preact/signals";
import { createPriced, type Priced, price, type Totals, totalsOf } from "./estimate";
import type { Costs } from "./protocol";

/** How often what need not follow every step of a drag is brought up to date during one. */
const CALM_MS = 120;

/** A scheme for each weight, and whether each op reads int8 activations. */
export interface Chosen {
  scheme: Uint16Array;
  int8?: Uint8Array;
}

export class Prices {
  /** changes whenever the plan was priced again; per-op arrays are in `live` */
  readonly totals: Signal<Totals>;
  /** the same, but only so often while a gesture runs: for charts and words that nobody reads meanwhile */
  readonly calm: Signal<Totals>;
  /** the same of what the plan is compared with */
  readonly baseline: Signal<Totals>;

  /** per-op results of the current plan; overwritten in place, read after `totals` */
  live: Priced;
  /** the same for what the plan is compared with */
  base: Priced;
  /** the same for the model as it was loaded: what bars are drawn against, whatever the baseline */
  loaded: Priced;

  private calming: ReturnType<typeof setTimeout> | undefined;
  private calmed = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly costs: ReadonlySignal<Costs>,
    plan: Chosen,
    baseline: Chosen | null,
  ) {
    this.live = this.base = this.loaded = createPriced(costs.peek());
    const nothing = totalsOf(this.live);
    this.totals = signal(nothing);
    this.calm = signal(nothing);
    this.baseline = signal(nothing);
    this.all(plan, baseline);
  }

  /** Price everything by a new table. */
  all(plan: Chosen, baseline: Chosen | null): void {
    const costs = this.costs.peek();
    this.live = createPriced(costs);
    this.base = createPriced(costs);
    this.loaded = createPriced(costs);
    price(costs, costs.start, this.loaded);
    this.compare(baseline);
    this.plan(plan, false);
  }

  /** @param moving whether the next plan is on its way: a slider is held */
  plan({ scheme, int8 }: Chosen, moving: boolean): void {
    // A plan may come before the table that prices it.
    if (scheme.length !== this.costs.peek().elements.length) return;
    price(this.costs.peek(), scheme, this.live, int8);
    this.totals.value = totalsOf(this.live);
    // Within a step, where it shares the step's frame; between two steps it would take one of its own.
    if (!moving || performance.now() - this.calmed >= CALM_MS) {
      this.settle();
      return;
    }
    this.calming ??= setTimeout(() => this.settle(), CALM_MS);
  }

  /** null compares with the model as it was loaded. */
  compare(baseline: Chosen | null): void {
    const costs = this.costs.peek();
    price(costs, baseline?.scheme ?? costs.start, this.base, baseline?.int8);
    this.baseline.value = totalsOf(this.base);
  }

  settle(): void {
    clearTimeout(this.calming);
    this.calming = undefined;
    this.calmed = performance.now();
    this.calm.value = this.totals.peek();
  }
}
