/** What each box of the graph holds: its value under the metric that is chosen, on the colour scale and as text. */

import { computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { Priced } from "../estimate";
import * as format from "../format";
import { opNoise, ratioOf } from "../sqnr";
import type { Store } from "../store";
import type { Item, ModuleTree, Scene } from "./collapse";
import {
  createSums,
  type Fixed,
  fixedOf,
  type Metric,
  position,
  rollUp,
  type Sums,
  say,
  sumModules,
} from "./metrics";

/** A plan as priced: per op, and summed per module. */
interface Plan {
  priced: Priced;
  sums: Sums;
}

export class Figures {
  readonly metric: Signal<Metric> = signal("size");
  /** largest value on the colour scale: of the model as loaded, so colours keep still while one drags */
  readonly most: ReadonlySignal<number>;

  private readonly now: ReadonlySignal<Plan>;
  private readonly base: ReadonlySignal<Plan>;
  private readonly loaded: ReadonlySignal<Plan>;
  private readonly flops: ReadonlySignal<Float64Array>;
  private readonly fixed: ReadonlySignal<Fixed>;

  constructor(
    private readonly store: Store,
    private readonly tree: ReadonlySignal<ModuleTree>,
    scene: ReadonlySignal<Scene>,
  ) {
    this.fixed = computed(() => fixedOf(store.costs.value, tree.value));
    const create = (): Sums => createSums(tree.value.path.length);
    const fill = (priced: Priced, sums: Sums): Plan => {
      sumModules(tree.value, this.fixed.value, priced, sums);
      return { priced, sums };
    };
    const reused = computed(create);
    this.now = computed(() => {
      store.prices.totals.value;
      return fill(store.prices.live, reused.value);
    });
    this.base = computed(() => {
      store.prices.baseline.value;
      return fill(store.prices.base, create());
    });
    this.loaded = computed(() => fill(store.prices.loaded, create()));
    this.flops = computed(() => {
      const sums = new Float64Array(tree.value.path.length);
      const { flops } = store.program.value.ops;
      for (let op = 0; op < flops.length; op++) sums[tree.value.opModule[op]!]! += flops[op]!;
      rollUp(tree.value, sums);
      return sums;
    });
    this.most = computed(() => {
      let most = 0;
      for (const item of scene.value.items)
        if (!item.expanded) most = Math.max(most, this.amount(item, this.loaded.value));
      return most;
    });
  }

  private bytes(item: Item, { priced, sums }: Plan): number {
    return item.kind === "op" ? priced.opBytes[item.index]! : total(item, sums.bytes);
  }

  private ms(item: Item, { priced, sums }: Plan): number {
    return item.kind === "op" ? priced.opMs[item.index]! : total(item, sums.ms);
  }

  /** What boxes share between them, under the metric. */
  private amount(item: Item, plan: Plan): number {
    if (this.metric.value === "FLOPs")
      return item.kind === "op"
        ? this.store.program.value.ops.flops[item.index]!
        : total(item, this.flops.value);
    return this.metric.value === "latency" ? this.ms(item, plan) : this.bytes(item, plan);
  }

  private whole(): number {
    if (this.metric.value === "FLOPs") return this.flops.value[0]!;
    const { ms, bytes } = this.now.value.sums;
    return (this.metric.value === "latency" ? ms : bytes)[0]!;
  }

  private elements(item: Item): number {
    if (item.kind !== "op") return total(item, this.fixed.value.elements);
    const { opWeights, opWeightsStart, elements } = this.store.costs.value;
    let count = 0;
    for (let i = opWeightsStart[item.index]!; i < opWeightsStart[item.index + 1]!; i++)
      count += elements[opWeights[i]!]!;
    return count;
  }

  /** Under the metric; NaN for a box that has none, such as the bits of what reads no weights. */
  value(item: Item): number {
    const metric = this.metric.value;
    const now = this.now.value;
    if (metric === "bits") return (8 * this.bytes(item, now)) / this.elements(item);
    if (metric === "error") {
      if (this.elements(item) === 0) return Number.NaN;
      if (item.kind === "op")
        return opNoise(this.store.costs.value, this.store.edits.scheme, item.index)?.ratio ?? Number.NaN;
      return ratioOf(total(item, now.sums.error), total(item, this.fixed.value.squares));
    }
    const base = this.base.value;
    if (metric === "change of size") return this.bytes(item, now) / this.bytes(item, base) - 1;
    if (metric === "change of latency") return this.ms(item, now) / this.ms(item, base) - 1;
    return this.amount(item, now);
  }

  /** Position on the colour scale, 0…1, or NaN. */
  position(item: Item): number {
    return position(this.metric.value, this.value(item), this.most.value);
  }

  /** What stands at the right of a box. */
  figure(item: Item): string {
    const value = this.value(item);
    const metric = this.metric.value;
    if (metric !== "size" && metric !== "latency" && metric !== "FLOPs") return say(metric, value);
    return value === 0 ? "" : format.share(value, this.whole());
  }

  /** One line on a box: what it is, what it holds, what it costs before and after. */
  describe(item: Item): string {
    const { program } = this.store;
    const ops = item.modules.reduce((sum, m) => sum + this.tree.value.opCount[m]!, 0);
    const path = item.kind === "stack" ? item.label : this.tree.value.path[item.index] || "model";
    const repeats = item.repeats > 1 ? ` · ${item.repeats} built alike` : "";
    const name =
      item.kind === "op"
        ? `${program.value.ops.name[item.index]} · ${item.label}`
        : `${path}${repeats} · ${format.plural(ops, "op")}`;
    const [was, now] = [this.base.value, this.now.value];
    const size = format.bytesChange(this.bytes(item, was), this.bytes(item, now));
    const [a, b] = [format.milliseconds(this.ms(item, was)), format.milliseconds(this.ms(item, now))];
    const ms = a === b ? b : `${a} ${format.ARROW} ${b}`;
    const metric = this.metric.value;
    const other =
      metric === "error" || metric === "bits" || metric === "FLOPs" ? say(metric, this.value(item)) : "";
    return `${name} · ${size} · ${format.ABOUT}${ms}${format.THIN}ms${other === "" ? "" : ` · ${other}`}`;
  }
}

function total(item: Item, column: Float64Array): number {
  let sum = 0;
  for (const m of item.modules) sum += column[m]!;
  return sum;
}
