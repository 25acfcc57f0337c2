/** Whether Python hears of what is done here; and if not, what became of it, what is kept, and how to go on. */

import { computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import * as format from "./format";
import { type End, watchKernel } from "./kernel";
import { type HostModel, text } from "./protocol";

/** "" while Python hears; "away" for a while; "saved" for a session that came with a notebook of old. */
export type Absence = End | "away" | "saved" | "";

const HAPPENED: Readonly<Record<End | "saved", string>> = {
  restarted: "The kernel was restarted, which ended this session",
  died: "The kernel died, and this session with it",
  ended: "The kernel has ended, and this session with it",
  missing: "This session has no kernel",
  saved: "This is how the notebook was saved",
};

/** What is told first of the same end: a kernel that died begins by restarting. */
const OVERRIDES: Readonly<Partial<Record<Absence, Absence>>> = { died: "restarted", saved: "missing" };

const AWAY = "The kernel cannot be reached: edits stay on this page until it is back, and are sent then.";

export interface Around {
  /** how many edits Python has not acknowledged */
  unheard(): number;
  /** Python hears again: what was lost on the way goes once more */
  back(): void;
  /** Python will never answer: what to say to those who wait, or "" once it does again */
  refuse(why: string): void;
}

export class Presence {
  readonly absence: ReadonlySignal<Absence>;
  /** of a line on top of every view; "" while all is well */
  readonly sentence: ReadonlySignal<string>;
  /** the call that goes on where this session ended; "" where there is nothing to go on from */
  private readonly resume: Signal<string>;
  private readonly now: Signal<Absence> = signal("");
  /** edits that Python had not heard of when the session ended */
  private readonly lost: Signal<number> = signal(0);
  private readonly unwatch: () => void;

  constructor(
    model: HostModel,
    private readonly around: Around,
  ) {
    const read = (): string => text(model.get("resume_call"));
    this.resume = signal(read());
    this.absence = this.now;
    this.sentence = computed(() => this.say());
    const update = (): void => {
      this.resume.value = read();
    };
    model.on("change:resume_call", update);
    const stop = watchKernel(model, ({ end, reachable }) => {
      if (end) this.over(end);
      else if (this.isOver) return;
      else if (reachable) this.hears();
      else this.now.value = "away";
    });
    this.unwatch = () => {
      model.off("change:resume_call", update);
      stop();
    };
  }

  /** Python has not had this session since the notebook was saved. */
  isSaved(): void {
    this.over("saved");
  }

  /** What was sent could not be. */
  failed(): void {
    if (!this.isOver) this.now.value = "away";
  }

  /** Python spoke, or the host says that the kernel is in reach again. */
  hears(): void {
    if (this.now.peek() === "") return;
    this.now.value = "";
    this.around.refuse("");
    this.around.back();
  }

  dispose(): void {
    this.unwatch();
  }

  private get isOver(): boolean {
    const now = this.now.peek();
    return now !== "" && now !== "away";
  }

  private over(end: End | "saved"): void {
    if (this.isOver && OVERRIDES[end] !== this.now.peek()) return;
    this.lost.value = this.around.unheard();
    this.now.value = end;
    const call = this.resume.peek();
    this.around.refuse(`${HAPPENED[end]}: ${call ? `go on with ${call}` : "run the cell again"}.`);
  }

  private say(): string {
    const now = this.now.value;
    if (now === "") return "";
    if (now === "away") return AWAY;
    const call = this.resume.value;
    const lost = this.lost.value;
    const kept =
      now === "died" ? "Plan and history are kept up to the last second" : "Plan and history are kept";
    const on = call
      ? `${kept}: load the model, then run ${call} to go on.`
      : "Run the cell that made it again to go on.";
    const unheard =
      lost > 0
        ? `, and so ${lost === 1 ? "is" : "are"} ${format.plural(lost, "edit")} that it had not heard of`
        : "";
    return `${HAPPENED[now]}. ${on} Edits made here now are lost${unheard}.`;
  }
}
