/**
 * Session state as signals, shared by every view of one session. The only file that talks to a Jupyter model;
 * it takes any object with get / set / on / off / save_changes, so that views run without a kernel.
 */

import { batch, computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import { decodeKept, decodeSnapshots, type KeptPlan, packKept } from "./baseline";
import { type Budgets, decodeBudgets, type Metric } from "./budgets";
import { Details } from "./details";
import { decodeErrors, decodeEvaluations, type Errors, type Evaluated } from "./errors";
import { createPriced, type Priced, price, type Totals, totalsOf } from "./estimate";
import { Exports } from "./exports";
import { OPENING, type TableView } from "./filters";
import { applyEdit, fold, type HistoryState } from "./history";
import { watchKernel } from "./kernel";
import { decodeMeasured, type Measured } from "./measured";
import { Optimizer } from "./optimize";
import {
  type Costs,
  decodeCosts,
  decodePlan,
  decodeProgram,
  type Edit,
  type HostModel,
  i32,
  type PlanMessage,
  type Program,
  type Wire,
} from "./protocol";
import { Requests, randomId } from "./requests";
import { type Assignment, FLOAT16 } from "./schemes";

/** Edits wait this long for the next one before they are sent. */
const SEND_DELAY_MS = 150;

export type Origin = "table" | "graph" | "outside";

export interface Selection {
  ops: readonly number[];
  has: ReadonlySet<number>;
  /** the view that made it, which therefore need not scroll to it */
  origin: Origin;
}

/** What the pointer is over: one op, or a module of the graph. */
export type Hover = { op: number; module: number } | null;

const historyOf = (plan: PlanMessage): HistoryState => ({
  scheme: plan.scheme,
  int8: plan.int8,
  entries: plan.history,
  cursor: plan.cursor,
});

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
  /** changes whenever anything was priced again; per-op arrays are in `live` */
  readonly totals: Signal<Totals>;
  /** the same of what the plan is compared with */
  readonly baseline: Signal<Totals>;
  /** what the plan is compared with; null for the model as it was loaded */
  readonly compared: Signal<KeptPlan | null>;
  /** what to call that, and the model as it was loaded */
  readonly baselineName: ReadonlySignal<string>;
  readonly loadedName: ReadonlySignal<string>;
  /** plans kept under a name */
  readonly snapshots: Signal<KeptPlan[]>;
  readonly history: Signal<HistoryState>;
  readonly selection: Signal<Selection>;
  readonly hover: Signal<Hover> = signal(null);
  /** what a person set up in the table: plain data, the same for all tables of the session */
  readonly tableView: Signal<TableView> = signal(OPENING);
  readonly preferredFamily: Signal<string>;
  /** weights that could not take the last choice */
  readonly skipped: Signal<number> = signal(0);
  /** what `session.measured` holds */
  readonly measured: Signal<Measured | null>;
  /** what `session.error` holds, and what was measured of plans, newest first */
  readonly errors: Signal<Errors | null>;
  readonly evaluations: Signal<Evaluated[]>;
  readonly requests = new Requests((request, afterEdits) => this.request(request, afterEdits));
  readonly exports = new Exports(this.requests);
  readonly optimizer = new Optimizer(this.requests);
  readonly details = new Details(this.requests);
  /** which ops read int8 activations: unlike `history`, the same while only weights change */
  readonly int8: ReadonlySignal<Uint8Array>;
  /** whether the kernel is known to be away: edits stay here then */
  readonly kernelGone: Signal<boolean> = signal(false);
  readonly canUndo: ReadonlySignal<boolean>;
  readonly canRedo: ReadonlySignal<boolean>;
  /** weights that the model-wide control edits: those of the selection, or all */
  readonly targets: ReadonlySignal<ArrayLike<number>>;

  /** per-op results of the current plan; overwritten in place, read after `totals` */
  live: Priced;
  /** the same for what the plan is compared with */
  base: Priced;
  /** the same for the model as it was loaded: what bars are drawn against, whatever the baseline */
  loaded: Priced;

  private readonly client = randomId();
  private sequence = 0;
  private sent = 0;
  private authority: HistoryState;
  private pending: Edit[] = [];
  /** fold of everything but the last pending edit, which a running gesture replaces */
  private settled: HistoryState;
  private gestureStart: { id: string; scheme: Uint16Array } | null = null;
  private gestures = 0;
  private sendTimer: ReturnType<typeof setTimeout> | undefined;
  private readonly listeners: [string, () => void][] = [];
  private readonly unwatch: () => void;
  private ended = false;

  constructor(private readonly model: HostModel) {
    this.program = signal(decodeProgram(model.get("program")));
    this.costs = signal(decodeCosts(model.get("costs")));
    this.devices = signal((model.get("devices") as string[] | undefined) ?? []);
    this.device = signal(String(model.get("device") ?? ""));
    this.computeUnit = signal(String(model.get("compute_unit") ?? ""));
    this.budgets = signal(decodeBudgets(model.get("budget_state")));
    this.preferredFamily = signal(this.costs.value.families[1]?.key ?? "");
    const plan = decodePlan(model.get("plan_state"));
    this.authority = historyOf(plan);
    this.settled = this.authority;
    this.history = signal(this.authority);
    this.selection = signal(this.readSelection());
    this.measured = signal(decodeMeasured(model.get("measured_state")));
    this.errors = signal(decodeErrors(model.get("error_state")));
    this.evaluations = signal(decodeEvaluations(model.get("evaluation_state")));
    this.compared = signal(this.readKept());
    this.snapshots = signal(this.readSnapshots());
    this.loadedName = computed(() => nameOfLoaded(this.costs.value.start));
    this.baselineName = computed(() => this.compared.value?.name ?? this.loadedName.value);
    this.live = createPriced(this.costs.value);
    this.base = createPriced(this.costs.value);
    this.loaded = createPriced(this.costs.value);
    this.totals = signal(totalsOf(this.live));
    this.baseline = signal(totalsOf(this.base));
    this.repriceAll();
    this.int8 = computed(() => this.history.value.int8);
    this.canUndo = computed(() => this.history.value.cursor > 0);
    this.canRedo = computed(() => this.history.value.cursor < this.history.value.entries.length);
    this.targets = computed(() => this.weightsOf(this.selection.value.ops));

    this.listen("program", () => {
      this.details.clear();
      this.program.value = decodeProgram(model.get("program"));
    });
    this.listen("costs", () => {
      batch(() => {
        this.costs.value = decodeCosts(model.get("costs"));
        this.live = createPriced(this.costs.value);
        this.base = createPriced(this.costs.value);
        this.loaded = createPriced(this.costs.value);
        this.repriceAll();
      });
    });
    this.listen("plan_state", () => {
      this.kernelIsThere();
      this.receivePlan();
    });
    this.listen("baseline_state", () => this.measureAgainst(this.readKept()));
    this.listen("snapshot_state", () => {
      this.snapshots.value = this.readSnapshots();
    });
    this.listen("devices", () => {
      this.devices.value = (model.get("devices") as string[] | undefined) ?? [];
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
    this.listen("evaluation_state", () => {
      this.evaluations.value = decodeEvaluations(model.get("evaluation_state"));
    });
    this.listen("response", () => {
      this.kernelIsThere();
      this.requests.receive(model.get("response"));
    });
    this.unwatch = watchKernel(model, ({ ended, reachable }) => {
      this.ended ||= ended;
      if (this.ended || !reachable) this.kernelGone.value = true;
      else this.kernelIsThere();
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

  get scheme(): Uint16Array {
    return this.history.value.scheme;
  }

  /** Scheme of each weight in what the plan is compared with. */
  get baseScheme(): Uint16Array {
    return this.compared.value?.scheme ?? this.costs.value.start;
  }

  // ---- edits -------------------------------------------------------------------------------------------

  /** Open a gesture; every `assign` with its id until `endGesture` is one undo step. */
  beginGesture(): string {
    this.endGesture();
    const id = `${this.client}-${++this.gestures}`;
    this.gestureStart = { id, scheme: this.history.peek().scheme };
    return id;
  }

  /** The plan as it was when the running gesture began. */
  startScheme(): Uint16Array {
    return this.gestureStart?.scheme ?? this.history.peek().scheme;
  }

  /** Whether a gesture runs: what need not follow a drag waits for its end. */
  get isGesturing(): boolean {
    return this.gestureStart !== null;
  }

  endGesture(): void {
    if (!this.gestureStart) return;
    this.gestureStart = null;
    this.send();
  }

  assign(assignment: Assignment, label: string, gesture: string): void {
    const { weights, schemes, skipped } = assignment;
    this.edit({ gesture, label, weights, schemes, ops: [], int8: [] }, skipped);
  }

  /** Give ops int8 activations, or float: one step. */
  setActivations(ops: readonly number[], int8: boolean, label: string): void {
    this.endGesture();
    const flags = ops.map(() => (int8 ? 1 : 0));
    this.edit({ gesture: "", label, weights: [], schemes: [], ops: [...ops], int8: flags }, 0);
  }

  private edit(change: Omit<Edit, "client" | "sequence" | "kind">, skipped: number): void {
    const { gesture } = change;
    const last = this.pending[this.pending.length - 1];
    const replace =
      last?.kind === "set" && last.gesture === gesture && gesture !== "" && last.sequence > this.sent;
    if (replace) this.pending.pop();
    else this.settled = this.history.peek();
    const edit: Edit = {
      client: this.client,
      sequence: replace ? last.sequence : ++this.sequence,
      kind: "set",
      ...change,
    };
    this.pending.push(edit);
    batch(() => {
      this.skipped.value = skipped;
      this.show(applyEdit(this.settled, edit));
    });
    this.sendSoon();
  }

  /** Take another plan as a whole: one step. */
  take(plan: Pick<KeptPlan, "scheme" | "int8">, label: string): void {
    this.endGesture();
    const weights = Array.from(plan.scheme, (_, w) => w);
    const schemes = Array.from(plan.scheme);
    const ops = Array.from(plan.int8, (_, op) => op);
    this.edit({ gesture: "", label, weights, schemes, ops, int8: Array.from(plan.int8) }, 0);
  }

  /** Undo or redo until so many steps of the history are applied. */
  goTo(cursor: number): void {
    batch(() => {
      while (cursor < this.history.peek().cursor && this.canUndo.peek()) this.undo();
      while (cursor > this.history.peek().cursor && this.canRedo.peek()) this.redo();
    });
  }

  undo(): void {
    this.walk("undo", this.canUndo.peek());
  }

  redo(): void {
    this.walk("redo", this.canRedo.peek());
  }

  private walk(kind: "undo" | "redo", possible: boolean): void {
    this.endGesture();
    if (!possible) return;
    this.settled = this.history.peek();
    const edit: Edit = {
      client: this.client,
      sequence: ++this.sequence,
      kind,
      gesture: "",
      label: "",
      weights: [],
      schemes: [],
      ops: [],
      int8: [],
    };
    this.pending.push(edit);
    batch(() => {
      this.skipped.value = 0;
      this.show(applyEdit(this.settled, edit));
    });
    this.sendSoon();
  }

  private show(state: HistoryState): void {
    batch(() => {
      const before = this.history.peek();
      const changed = state.scheme !== before.scheme || state.int8 !== before.int8;
      this.history.value = state;
      if (changed) this.reprice();
    });
  }

  private receivePlan(): void {
    const plan = decodePlan(this.model.get("plan_state"));
    this.authority = historyOf(plan);
    const done = plan.acknowledged[this.client] ?? 0;
    this.pending = this.pending.filter((edit) => edit.sequence > done);
    this.settled = fold(this.authority, this.pending.slice(0, -1));
    this.show(fold(this.settled, this.pending.slice(-1)));
  }

  private reprice(): void {
    const { scheme, int8 } = this.history.peek();
    price(this.costs.peek(), scheme, this.live, int8);
    this.totals.value = totalsOf(this.live);
  }

  private repriceAll(): void {
    const costs = this.costs.peek();
    price(costs, costs.start, this.loaded);
    this.repriceBase();
    this.reprice();
  }

  private repriceBase(): void {
    const costs = this.costs.peek();
    const kept = this.compared.peek();
    price(costs, kept?.scheme ?? costs.start, this.base, kept?.int8);
    this.baseline.value = totalsOf(this.base);
  }

  /** Compare with another plan, here and in every view; null for the model as it was loaded. */
  compareWith(kept: KeptPlan | null): void {
    this.measureAgainst(kept);
    void this.requests.ask("baseline", packKept(kept));
  }

  private measureAgainst(kept: KeptPlan | null): void {
    batch(() => {
      this.compared.value = kept;
      this.repriceBase();
    });
  }

  private sendSoon(): void {
    clearTimeout(this.sendTimer);
    this.sendTimer = setTimeout(() => this.send(), SEND_DELAY_MS);
  }

  private send(): void {
    clearTimeout(this.sendTimer);
    this.sendTimer = undefined;
    const last = this.pending[this.pending.length - 1];
    if (!last || last.sequence === this.sent) return;
    this.sent = last.sequence;
    this.model.set("edits", [...this.pending]);
    this.save();
  }

  // ---- selection, device, requests ---------------------------------------------------------------------

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
      this.skipped.value = 0;
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

  setHover(hover: Hover): void {
    const now = this.hover.peek();
    if (now?.op === hover?.op && now?.module === hover?.module) return;
    this.hover.value = hover;
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
      this.kernelGone.value = true;
    }
  }

  /** Python spoke, or the host says that the kernel is in reach again: what was lost on the way is sent once more. */
  private kernelIsThere(): void {
    if (!this.kernelGone.peek()) return;
    this.ended = false;
    this.kernelGone.value = false;
    this.sent = 0;
    this.send();
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
      this.endGesture();
      this.send();
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
    this.send();
    this.unwatch();
    for (const [event, callback] of this.listeners) this.model.off(event, callback);
    this.listeners.length = 0;
  }
}
