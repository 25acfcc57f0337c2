/** Plans that Python makes better by measuring them: whether it can, how far it is, and what came of it. */

import { type Signal, signal } from "@preact/signals";
import { number, text, wire } from "./protocol";
import type { Requests } from "./requests";

export interface Refining {
  /** why nothing can be refined; "" where it can */
  unavailable: string;
  running: boolean;
  stage: string;
  /** of the stage, 0 to 1 */
  done: number;
  ok: boolean;
  /** what came of the last run, in a sentence or two */
  message: string;
}

export function decodeRefining(value: unknown): Refining {
  const raw = wire(value);
  return {
    unavailable: text(raw.unavailable),
    running: raw.running === true,
    stage: text(raw.stage),
    done: number(raw.done ?? 0),
    ok: raw.ok !== false,
    message: text(raw.message),
  };
}

export class Refiner {
  /** asked, and Python has not answered yet */
  readonly waiting: Signal<boolean> = signal(false);
  /** why Python did not do what it was asked for, or "" */
  readonly refusal: Signal<string> = signal("");

  constructor(private readonly requests: Requests) {}

  /** Begin with the plan as it is now; ops of `keep` leave their weights as they are. */
  async start(keep: readonly number[]): Promise<void> {
    this.waiting.value = true;
    await this.ask({ what: "start", keep: [...keep] });
    this.waiting.value = false;
  }

  /** Have the run end at its next step. */
  cancel(): Promise<void> {
    return this.ask({ what: "cancel" });
  }

  private async ask(fields: Record<string, unknown>): Promise<void> {
    const raw = await this.requests.ask("refine", fields);
    this.refusal.value = raw.ok ? "" : text(raw.message);
  }
}
