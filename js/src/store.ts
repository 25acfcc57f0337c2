/**
 * Session state as signals, shared by every view of one session. The only file that talks to a Jupyter model;
 * it takes any object with get / set / on / off / save_changes, so that views run without a kernel.
 */

import { batch, computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import { decodeKept, decodeSnapshots, type KeptPlan, packKept } from "./baseline";
import { type Budgets, decodeBudgets, type Metric } from "./budgets";
import { Details } from "./details";
import { Edits } from "./edits";
import {
  type Composed,
  decodeComposed,
  decodeErrors,
  decodeEvaluations,
  type Errors,
  type Evaluated,
} from "./errors";
import { Exports } from "./exports";
import { OPENING, type TableView } from "./filters";
import { decodeMeasured, type Measured } from "./measured";
import { Optimizer } from "./optimize";
import { Presence } from "./presence";
import { Prices } from "./prices";
import {
  type Costs,
  decodeCosts,
  decodePlan,
  decodeProgram,
  type HostModel,
  i32,
  type Program,
  type Wire,
} from "./protocol";
import { decodeRefining, Refiner, type Refining } from "./refine";
import { Requests } from "./requests";
import { FLOAT16 } from "./schemes";
import { decodeSweep, type Sweep, type Unknown, unknownError } from "./sqnr";

export type Origin = "table" | "graph" | "outside";

export interface Selection {
  ops: readonly number[];
  has: ReadonlySet<number>;
  /** the view that made it, which therefore need not scroll to it */
  origin: Origin;
}

/** What the pointer is over: one op, or modules that one box of the graph stands for, and op is -1. */
export type Hover = { op: number; modules: readonly number[] } | null;

const NO_MODULES: readonly number[] = [];

const nameOfLoaded = (start: Uint16Array): string =>
  start.every((s) => s === FLOAT16) ? "float16" : "the model as loaded";

export class Store {
  readonly program: Signal<Program>;
  readonly costs: Signal<Costs>;
  readonly devices: Signal<string[]>;
  /** the device asked for; `costs.value.device` is the one priced */
  readonly device: Signal<string>;
  /** the same of compute units, and `costs.value.computeUnit` */
  readonly computeUnit: Signal<string>;
  readonly budgets: Signal<Budgets>;
  readonly edits: Edits;
  readonly prices: Prices;
  /** what the plan is compared with; null for the model as it was loaded */
  readonly compared: Signal<KeptPlan | null>;
  /** what to call that, and the model as it was loaded */
  readonly baselineName: ReadonlySignal<string>;
  readonly loadedName: ReadonlySignal<string>;
  /** plans kept under a name */
  readonly snapshots: Signal<KeptPlan[]>;
  readonly selection: Signal<Selection>;
  readonly hover: Signal<Hover> = signal(null);
  /** what a person set up in the table: plain data, the same for all tables of the session */
  readonly tableView: Signal<TableView> = signal(OPENING);
  readonly preferredFamily: Signal<string>;
  /** what `session.measured` holds */
  readonly measured: Signal<Measured | null>;
  /** what `session.error` holds, what Python composed of plans by it, and what was measured of plans, newest first */
  readonly errors: Signal<Errors | null>;
  readonly composed: Signal<Composed>;
  readonly evaluations: Signal<Evaluated[]>;
  readonly refining: Signal<Refining>;
  /** how far Python is with the errors of weights */
  readonly sweep: Signal<Sweep>;
  /** whether more of them will come, and what is said in place of those that are not known */
  readonly findsErrors: ReadonlySignal<boolean>;
  readonly unknownError: ReadonlySignal<Unknown>;
  readonly requests = new Requests((request, afterEdits) => this.request(request, afterEdits));
  readonly exports = new Exports(this.requests);
  readonly optimizer = new Optimizer(this.requests);
  readonly refiner = new Refiner(this.requests);
  readonly details = new Details(this.requests);
  /** whether Python hears of edits, and what to say if not */
  readonly presence: Presence;
  /** weights that the model-wide control edits: those of the selection, or all */
  readonly targets: ReadonlySignal<ArrayLike<number>>;

  private readonly listeners: [string, () => void][] = [];

  constructor(private readonly model: HostModel) {
    this.program = signal(decodeProgram(model.get("program")));
    this.costs = signal(decodeCosts(model.get("costs")));
    this.devices = signal(this.readDevices());
    this.device = signal(String(model.get("device") ?? ""));
    this.computeUnit = signal(String(model.get("compute_unit") ?? ""));
    this.budgets = signal(decodeBudgets(model.get("budget_state")));
    this.preferredFamily = signal(this.costs.value.families[1]?.key ?? "");
    this.selection = signal(this.readSelection());
    this.measured = signal(decodeMeasured(model.get("measured_state")));
    this.errors = signal(decodeErrors(model.get("error_state")));
    this.composed = signal(decodeComposed(model.get("loss_state")));
    this.evaluations = signal(decodeEvaluations(model.get("evaluation_state")));
    this.refining = signal(decodeRefining(model.get("refine_state")));
    this.sweep = signal(decodeSweep(model.get("sweep_state")));
    this.findsErrors = computed(() => this.sweep.value.running && this.presence.absence.value === "");
    this.unknownError = computed(() => unknownError(this.sweep.value, this.findsErrors.value));
    this.compared = signal(this.readKept());
    this.snapshots = signal(this.readSnapshots());
    this.loadedName = computed(() => nameOfLoaded(this.costs.value.start));
    this.baselineName = computed(() => this.compared.value?.name ?? this.loadedName.value);
    this.edits = new Edits(decodePlan(model.get("plan_state")), {
      changed: () => this.prices.plan(this.edits.history.peek(), this.edits.gesturing.peek()),
      rests: () => this.prices.settle(),
      deliver: (edits) => {
        model.set("edits", edits);
        this.save();
      },
    });
    this.prices = new Prices(this.costs, this.edits.history.peek(), this.compared.peek());
    this.targets = computed(() => this.weightsOf(this.selection.value.ops));

    this.listen("program", () => {
      this.details.clear();
      this.program.value = decodeProgram(model.get("program"));
    });
    this.listen("costs", () => {
      batch(() => {
        this.costs.value = decodeCosts(model.get("costs"));
        this.prices.all(this.edits.history.peek(), this.compared.peek());
      });
    });
    this.listen("plan_state", () => {
      this.presence.hears();
      this.edits.receive(decodePlan(model.get("plan_state")));
    });
    this.listen("baseline_state", () => this.measureAgainst(this.readKept()));
    this.listen("snapshot_state", () => {
      this.snapshots.value = this.readSnapshots();
    });
    this.listen("devices", () => {
      this.devices.value = this.readDevices();
    });
    this.listen("device", () => {
      this.device.value = String(model.get("device") ?? "");
    });
    this.listen("compute_unit", () => {
      this.computeUnit.value = String(model.get("compute_unit") ?? "");
    });
    this.listen("budget_state", () => {
      this.budgets.value = decodeBudgets(model.get("budget_state"));
    });
    this.listen("selected_ops", () => {
      const next = this.readSelection();
      const now = this.selection.peek().ops;
      if (next.ops.length === now.length && next.ops.every((op, i) => op === now[i])) return;
      this.selection.value = next;
    });
    this.listen("measured_state", () => {
      this.measured.value = decodeMeasured(model.get("measured_state"));
    });
    this.listen("error_state", () => {
      this.errors.value = decodeErrors(model.get("error_state"));
    });
    this.listen("loss_state", () => {
      this.composed.value = decodeComposed(model.get("loss_state"));
    });
    this.listen("evaluation_state", () => {
      this.evaluations.value = decodeEvaluations(model.get("evaluation_state"));
    });
    this.listen("refine_state", () => {
      this.refining.value = decodeRefining(model.get("refine_state"));
    });
    this.listen("sweep_state", () => {
      this.sweep.value = decodeSweep(model.get("sweep_state"));
    });
    this.listen("response", () => {
      this.presence.hears();
      this.requests.receive(model.get("response"));
    });
    this.presence = new Presence(model, {
      unheard: () => this.edits.unheard,
      back: () => this.edits.sendAgain(),
      refuse: (why) => this.requests.refuse(why),
    });
    this.listen("progress", () => this.requests.told(model.get("progress")));
  }

  /** Weights read by these ops, each once; all weights for no ops. */
  weightsOf(ops: ArrayLike<number>): ArrayLike<number> {
    const costs = this.costs.value;
    if (ops.length === 0) return Int32Array.from({ length: costs.elements.length }, (_, w) => w);
    const { opWeights, opWeightsStart } = costs;
    if (ops.length === 1) return opWeights.subarray(opWeightsStart[ops[0]!]!, opWeightsStart[ops[0]! + 1]!);
    const seen = new Uint8Array(costs.elements.length);
    const found: number[] = [];
    for (let at = 0; at < ops.length; at++)
      for (let i = opWeightsStart[ops[at]!]!; i < opWeightsStart[ops[at]! + 1]!; i++) {
        const w = opWeights[i]!;
        if (seen[w] === 0) found.push(w);
        seen[w] = 1;
      }
    return Int32Array.from(found);
  }

  /** Scheme of each weight in what the plan is compared with. */
  get baseScheme(): Uint16Array {
    return this.compared.value?.scheme ?? this.costs.value.start;
  }

  /** Compare with another plan, here and in every view; null for the model as it was loaded. */
  compareWith(kept: KeptPlan | null): void {
    this.measureAgainst(kept);
    void this.requests.ask("baseline", packKept(kept));
  }

  private measureAgainst(kept: KeptPlan | null): void {
    batch(() => {
      this.compared.value = kept;
      this.prices.compare(kept);
    });
  }

  // ---- selection, device, requests ---------------------------------------------------------------------

  private readDevices(): string[] {
    return (this.model.get("devices") as string[] | undefined) ?? [];
  }

  private readKept(): KeptPlan | null {
    return decodeKept(this.model.get("baseline_state"), this.costs.peek().elements.length);
  }

  private readSnapshots(): KeptPlan[] {
    return decodeSnapshots(this.model.get("snapshot_state"), this.costs.peek().elements.length);
  }

  private readSelection(): Selection {
    const count = this.program.peek().ops.count;
    const ops = Array.from(i32(this.model.get("selected_ops"))).filter((op) => op >= 0 && op < count);
    return { ops, has: new Set(ops), origin: "outside" };
  }

  select(ops: readonly number[], origin: Origin): void {
    const has = new Set(ops);
    const unique = has.size === ops.length ? ops : [...has];
    batch(() => {
      this.edits.skipped.value = 0;
      this.selection.value = { ops: unique, has, origin };
    });
    this.model.set("selected_ops", [...unique]);
    this.save();
  }

  toggle(ops: readonly number[], origin: Origin): void {
    const { ops: now, has } = this.selection.peek();
    if (ops.every((op) => has.has(op))) {
      const gone = new Set(ops);
      this.select(
        now.filter((op) => !gone.has(op)),
        origin,
      );
    } else {
      this.select([...now, ...ops.filter((op) => !has.has(op))], origin);
    }
  }

  /** The pointer is over an op; -1 for nothing. */
  hoverOp(op: number): void {
    if ((this.hover.peek()?.op ?? -1) === op && (op >= 0 || !this.hover.peek())) return;
    this.hover.value = op < 0 ? null : { op, modules: NO_MODULES };
  }

  hoverModules(modules: readonly number[]): void {
    if (this.hover.peek()?.modules !== modules) this.hover.value = { op: -1, modules };
  }

  chooseDevice(name: string): void {
    this.device.value = name;
    this.model.set("device", name);
    this.save();
  }

  /** A closed comm throws, and what was done stays on screen. */
  private save(): void {
    try {
      this.model.save_changes();
    } catch (error) {
      console.warn(error);
      this.presence.failed();
    }
  }

  chooseComputeUnit(unit: string): void {
    this.computeUnit.value = unit;
    this.model.set("compute_unit", unit);
    this.save();
  }

  /** Set a budget, or take it away. */
  setBudget(metric: Metric, most: number | null): void {
    const { [metric]: _, ...rest } = this.budgets.peek();
    this.budgets.value = most === null ? rest : { ...rest, [metric]: most };
    this.model.set("budget_state", { ...this.budgets.peek() });
    this.save();
  }

  /** Ask Python for something; where edits matter to it, those that were not sent yet go first. */
  private request(request: Wire, afterEdits: boolean): void {
    if (afterEdits) {
      this.edits.end();
      this.edits.send();
    }
    this.model.set("request", request);
    this.save();
  }

  private listen(trait: string, callback: () => void): void {
    const event = `change:${trait}`;
    this.model.on(event, callback);
    this.listeners.push([event, callback]);
  }

  dispose(): void {
    this.edits.send();
    this.presence.dispose();
    for (const [event, callback] of this.listeners) this.model.off(event, callback);
    this.listeners.length = 0;
  }
}
