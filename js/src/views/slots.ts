/** Elements of rows that stay while the table scrolls: each shows one op now and another one later. */

import { batch, type Signal, signal } from "@preact/signals";

export interface Slot {
  readonly id: number;
  readonly op: Signal<number>;
  /** where the op is among those that are shown */
  readonly index: Signal<number>;
  /** false while it is known that nobody sees it */
  readonly seen: Signal<boolean>;
}

export class Slots {
  /** in the order of the document; another list when one comes, goes or moves */
  list: readonly Slot[] = [];
  private made = 0;

  /**
   * Show the ops at these places of an order. What is shown already keeps its slot, with all that a person does in it;
   * the others take those that are left.
   */
  show(order: Int32Array, indices: readonly number[]): void {
    const missing = new Map(indices.map((index) => [order[index]!, index]));
    const free: Slot[] = [];
    batch(() => {
      for (const slot of this.list) {
        const index = missing.get(slot.op.peek());
        if (index === undefined) free.push(slot);
        else slot.index.value = index;
        missing.delete(slot.op.peek());
      }
      const more: Slot[] = [];
      for (const [op, index] of missing) {
        const slot = free.pop();
        if (!slot) {
          more.push({ id: this.made++, op: signal(op), index: signal(index), seen: signal(true) });
          continue;
        }
        slot.op.value = op;
        slot.index.value = index;
      }
      const same = free.length === 0 && more.length === 0;
      if (!same) this.list = [...this.list.filter((slot) => !free.includes(slot)), ...more];
    });
  }

  /** Say which places are in view, both included. */
  look(from: number, to: number): void {
    batch(() => {
      for (const slot of this.list) slot.seen.value = at(slot) >= from && at(slot) <= to;
    });
  }

  /** Bring them into the order in which they are read, for whoever copies them or hears them read. */
  sort(): void {
    const sorted = this.list.every((slot, i, list) => i === 0 || at(list[i - 1]!) < at(slot));
    if (!sorted) this.list = [...this.list].sort((a, b) => at(a) - at(b));
  }
}

const at = (slot: Slot): number => slot.index.peek();
