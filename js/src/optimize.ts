/** The best plans for budgets: what Python sent once, a plan for any budget from it, and what was asked for. */

import { batch, type Signal, signal } from "@preact/signals";
import { f64, i32, number, text, u16, wire, wires } from "./protocol";
import type { Progress, Requests } from "./requests";

/** Steps from the cheapest plan to the one of least error, those that gain most for what they cost first. */
export interface BudgetSteps {
  /** scheme of each weight in the cheapest plan */
  scheme: Uint16Array;
  least: number;
  most: number;
  /** weights of each group */
  members: number[][];
  group: Int32Array;
  column: Uint16Array;
  cost: Float64Array;
}

export interface Preset {
  name: string;
  says: string;
  source: string;
}

/** What the menu shows. */
export interface Offer {
  steps: BudgetSteps;
  grade: string;
  what: string;
  warning: string;
  presets: Preset[];
}

export interface Found {
  ok: boolean;
  message: string;
}

function decodeSteps(value: unknown): BudgetSteps {
  const raw = wire(value);
  const members: number[][] = [];
  i32(raw.group).forEach((group, weight) => {
    if (group < 0) return;
    members[group] ??= [];
    members[group].push(weight);
  });
  return {
    scheme: u16(raw.scheme),
    least: number(raw.least),
    most: number(raw.most),
    members,
    group: i32(raw.step_group),
    column: u16(raw.step_column),
    cost: f64(raw.step_cost),
  };
}

/** Sums in another order than Python's may be over a budget by so much of it. */
const ROUNDING = 1e-12;

/**
 * Take every step that fits, in order; a group that was passed over takes no further ones. That is the optimum of the
 * linear relaxation, rounded down and filled up.
 */
export function planFor(steps: BudgetSteps, budget: number): Uint16Array {
  const { members, group, column, cost } = steps;
  const scheme = steps.scheme.slice();
  const passed = new Uint8Array(members.length);
  const most = budget * (1 + ROUNDING);
  let spent = steps.least;
  for (let s = 0; s < group.length; s++) {
    const g = group[s]!;
    if (passed[g]) continue;
    if (spent + cost[s]! > most) {
      passed[g] = 1;
      continue;
    }
    spent += cost[s]!;
    for (const w of members[g]!) scheme[w] = column[s]!;
  }
  return scheme;
}

/** What is asked for: a budget in words, or a preset. */
export type Wanted = { what: "budget"; budget: string } | { what: "preset"; name: string };

export class Optimizer {
  readonly offer: Signal<Offer | null> = signal(null);
  /** why there is no offer, or "" */
  readonly refusal: Signal<string> = signal("");
  /** what came of the last plan that was asked for */
  readonly found: Signal<Found | null> = signal(null);
  readonly waiting: Signal<boolean> = signal(false);
  /** of what is waited for; null until the kernel begins */
  readonly progress: Signal<Progress | null> = signal(null);
  /** numbers of the last question, the last look at what can be reached, and the last plan asked for */
  private asked = 0;
  private opened = 0;
  private finding = 0;

  constructor(private readonly requests: Requests) {}

  /** Ask what can be reached; ops of `keep` leave their weights as they are. */
  async open(keep: readonly number[]): Promise<void> {
    const opened = ++this.opened;
    this.refusal.value = "";
    const raw = await this.ask({ what: "open", keep: [...keep] });
    if (opened !== this.opened) return;
    if (!raw.ok) this.refusal.value = text(raw.message);
    this.offer.value = raw.ok
      ? {
          steps: decodeSteps(raw.steps),
          grade: text(raw.grade),
          what: text(raw.what),
          warning: text(raw.warning),
          presets: wires(raw.presets).map((p) => ({
            name: text(p.name),
            says: text(p.says),
            source: text(p.source),
          })),
        }
      : null;
  }

  /** Have Python find a plan and take it; a step of `gesture`, if a drag came before. */
  async find(wanted: Wanted, keep: readonly number[], gesture = ""): Promise<void> {
    const found = ++this.finding;
    const raw = await this.ask({ ...wanted, keep: [...keep], gesture });
    if (found === this.finding) this.found.value = { ok: Boolean(raw.ok), message: text(raw.message) };
  }

  /** Stop waiting; what the kernel has begun goes on. */
  cancel(): void {
    this.opened++;
    this.finding++;
    this.asked++;
    this.rest();
  }

  private async ask(fields: Record<string, unknown>): Promise<Record<string, unknown>> {
    const asked = ++this.asked;
    batch(() => {
      this.waiting.value = true;
      this.progress.value = null;
      this.found.value = null;
    });
    const raw = await this.requests.ask("optimize", fields, (progress) => {
      if (asked === this.asked) this.progress.value = progress;
    });
    if (asked === this.asked) this.rest();
    return raw;
  }

  private rest(): void {
    batch(() => {
      this.waiting.value = false;
      this.progress.value = null;
    });
  }
}
