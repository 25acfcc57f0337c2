/** The plan as a person edits it: gestures, steps to undo and redo, and what of them Python was not told yet. */

import { batch, computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { KeptPlan } from "./baseline";
import { applyEdit, fold, type HistoryState } from "./history";
import type { Edit, PlanMessage } from "./protocol";
import { randomId } from "./requests";
import type { Assignment } from "./schemes";

/** Edits wait this long for the next one before they are sent. */
const SEND_DELAY_MS = 150;

/** An edit that sets nothing. */
const NOTHING = { gesture: "", label: "", weights: [], schemes: [], ops: [], int8: [] };

const historyOf = (plan: PlanMessage): HistoryState => ({
  scheme: plan.scheme,
  int8: plan.int8,
  entries: plan.history,
  cursor: plan.cursor,
});

export interface Around {
  /** the plan is another; called before anything that shows it */
  changed(): void;
  /** a gesture has ended */
  rests(): void;
  /** takes all edits that Python has not acknowledged */
  deliver(edits: readonly Edit[]): void;
}

interface Gesture {
  id: string;
  began: HistoryState;
}

export class Edits {
  readonly history: Signal<HistoryState>;
  /** which ops read int8 activations: unlike `history`, the same while only weights change */
  readonly int8: ReadonlySignal<Uint8Array>;
  /** the plan when the running gesture began; as it is now while none runs */
  readonly rested: ReadonlySignal<HistoryState>;
  /** scheme of each weight in it */
  readonly held: ReadonlySignal<Uint16Array>;
  /** whether a gesture runs: what nobody sees during one waits for its end */
  readonly gesturing: ReadonlySignal<boolean>;
  /** weights that could not take the last choice */
  readonly skipped: Signal<number> = signal(0);
  readonly canUndo: ReadonlySignal<boolean>;
  readonly canRedo: ReadonlySignal<boolean>;

  private readonly client = randomId();
  private sequence = 0;
  private sent = 0;
  private authority: HistoryState;
  private pending: Edit[] = [];
  /** fold of everything but the last pending edit, which a running gesture replaces */
  private settled: HistoryState;
  private readonly gesture: Signal<Gesture | null> = signal(null);
  private gestures = 0;
  private sendTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    plan: PlanMessage,
    private readonly around: Around,
  ) {
    this.authority = historyOf(plan);
    this.settled = this.authority;
    this.history = signal(this.authority);
    this.int8 = computed(() => this.history.value.int8);
    this.gesturing = computed(() => this.gesture.value !== null);
    this.rested = computed(() => this.gesture.value?.began ?? this.history.value);
    this.held = computed(() => this.rested.value.scheme);
    this.canUndo = computed(() => this.history.value.cursor > 0);
    this.canRedo = computed(() => this.history.value.cursor < this.history.value.entries.length);
  }

  get scheme(): Uint16Array {
    return this.history.value.scheme;
  }

  /** Open a gesture; every `assign` with its id until `end` is one undo step. */
  begin(): string {
    this.end();
    const id = `${this.client}-${++this.gestures}`;
    this.gesture.value = { id, began: this.history.peek() };
    return id;
  }

  end(): void {
    if (!this.gesture.peek()) return;
    this.gesture.value = null;
    this.around.rests();
    this.send();
  }

  assign(assignment: Assignment, label: string, gesture: string): void {
    const { weights, schemes, skipped } = assignment;
    this.set({ ...NOTHING, gesture, label, weights, schemes }, skipped);
  }

  /**
   * A drag of one step there and back, before anything of it is drawn: all that follows the plan is worked out, and then
   * again. Neither the history nor Python hears of it. Nothing where a person edits.
   */
  rehearse({ weights, schemes }: Assignment): void {
    if (this.gesture.peek() || this.pending.length > 0) return;
    const now = this.history.peek();
    this.begin();
    this.show(applyEdit(now, { kind: "set", weights, schemes }));
    this.show(now);
    this.end();
  }

  /** Give ops int8 activations, or float: one step. */
  setActivations(ops: readonly number[], int8: boolean, label: string): void {
    this.end();
    this.set({ ...NOTHING, label, ops: [...ops], int8: ops.map(() => (int8 ? 1 : 0)) }, 0);
  }

  /** Take another plan as a whole: one step. */
  take(plan: Pick<KeptPlan, "scheme" | "int8">, label: string): void {
    this.end();
    const weights = Array.from(plan.scheme, (_, w) => w);
    const schemes = Array.from(plan.scheme);
    const ops = Array.from(plan.int8, (_, op) => op);
    this.set({ gesture: "", label, weights, schemes, ops, int8: Array.from(plan.int8) }, 0);
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

  private set(change: Omit<Edit, "client" | "sequence" | "kind">, skipped: number): void {
    const last = this.pending[this.pending.length - 1];
    const replaced =
      last?.kind === "set" &&
      last.gesture === change.gesture &&
      change.gesture !== "" &&
      last.sequence > this.sent
        ? this.pending.pop()
        : undefined;
    if (!replaced) this.settled = this.history.peek();
    this.add(
      { client: this.client, sequence: replaced?.sequence ?? ++this.sequence, kind: "set", ...change },
      skipped,
    );
  }

  private walk(kind: "undo" | "redo", possible: boolean): void {
    this.end();
    if (!possible) return;
    this.settled = this.history.peek();
    this.add({ client: this.client, sequence: ++this.sequence, kind, ...NOTHING }, 0);
  }

  private add(edit: Edit, skipped: number): void {
    this.pending.push(edit);
    batch(() => {
      this.skipped.value = skipped;
      this.show(applyEdit(this.settled, edit));
    });
    clearTimeout(this.sendTimer);
    this.sendTimer = setTimeout(() => this.send(), SEND_DELAY_MS);
  }

  private show(state: HistoryState): void {
    batch(() => {
      const before = this.history.peek();
      const other = state.scheme !== before.scheme || state.int8 !== before.int8;
      this.history.value = state;
      if (other) this.around.changed();
    });
  }

  // ---- Python ------------------------------------------------------------------------------------------

  /** Take the plan that Python has, with what it was not told yet on top. */
  receive(plan: PlanMessage): void {
    this.authority = historyOf(plan);
    const done = plan.acknowledged[this.client] ?? 0;
    this.pending = this.pending.filter((edit) => edit.sequence > done);
    this.settled = fold(this.authority, this.pending.slice(0, -1));
    this.show(fold(this.settled, this.pending.slice(-1)));
  }

  /** How many edits Python has not acknowledged. */
  get unheard(): number {
    return this.pending.length;
  }

  send(): void {
    clearTimeout(this.sendTimer);
    this.sendTimer = undefined;
    const last = this.pending[this.pending.length - 1];
    if (!last || last.sequence === this.sent) return;
    this.sent = last.sequence;
    this.around.deliver([...this.pending]);
  }

  /** What was sent may have been lost on the way. */
  sendAgain(): void {
    this.sent = 0;
    this.send();
  }
}
