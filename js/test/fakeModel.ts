/** A Jupyter model without Jupyter: traits in a map, listeners that can be counted, and a kernel one can block. */

import { applyEdit, type HistoryState } from "../src/history";
import { decodePlan, type Edit, type HostModel, type Wire } from "../src/protocol";
import { type SyntheticOptions, synthetic, view } from "./synthetic";

export class FakeModel implements HostModel {
  readonly traits = new Map<string, unknown>();
  /** while true nothing comes back, as when a cell is running */
  blocked = true;
  saves = 0;
  private readonly listeners = new Map<string, Set<() => void>>();
  private readonly acknowledged: Record<string, number> = {};

  constructor(options: SyntheticOptions = {}) {
    const s = synthetic(options);
    const device = options.device ?? "iPhone 15 Pro";
    for (const [key, value] of Object.entries({
      program: s.program,
      costs: s.costs,
      plan_state: s.plan,
      devices: ["iPhone 12", "iPhone 13", "iPhone 14 Pro", "iPhone 15 Pro"],
      device,
      compute_unit: "all",
      name: options.name ?? "",
      selected_ops: [],
      edits: [],
      response: {},
    }))
      this.traits.set(key, value);
  }

  get(key: string): unknown {
    return this.traits.get(key);
  }

  set(key: string, value: unknown): void {
    this.traits.set(key, value);
  }

  on(event: string, callback: () => void): void {
    const set = this.listeners.get(event) ?? new Set();
    set.add(callback);
    this.listeners.set(event, set);
  }

  off(event: string, callback: () => void): void {
    this.listeners.get(event)?.delete(callback);
  }

  save_changes(): void {
    this.saves++;
    if (!this.blocked) this.answer();
  }

  get listenerCount(): number {
    return [...this.listeners.values()].reduce((sum, set) => sum + set.size, 0);
  }

  /** What Python does with a trait: set it and tell. */
  push(key: string, value: unknown): void {
    this.traits.set(key, value);
    for (const callback of this.listeners.get(`change:${key}`) ?? []) callback();
  }

  get edits(): Edit[] {
    return (this.traits.get("edits") as Edit[] | undefined) ?? [];
  }

  /** Apply what was sent, as session.py does, and publish the plan. */
  answer(): void {
    const plan = decodePlan(this.traits.get("plan_state"));
    const { scheme, int8, history: entries, cursor } = plan;
    let state: HistoryState = { scheme, int8, entries, cursor };
    for (const edit of this.edits) {
      if (edit.sequence <= (this.acknowledged[edit.client] ?? 0)) continue;
      state = applyEdit(state, edit);
      this.acknowledged[edit.client] = edit.sequence;
    }
    this.push("plan_state", planWire(state, plan.revision + 1, this.acknowledged));
  }
}

export function planWire(state: HistoryState, revision: number, acknowledged: Record<string, number>): Wire {
  return {
    revision,
    scheme: view(state.scheme),
    int8: view(state.int8),
    cursor: state.cursor,
    history: state.entries.map((e) => ({
      label: e.label,
      gesture: e.gesture,
      weights: view(Int32Array.from(e.weights)),
      before: view(Uint16Array.from(e.before)),
      after: view(Uint16Array.from(e.after)),
      toggled: view(Int32Array.from(e.toggled)),
    })),
    acknowledged: { ...acknowledged },
  };
}
