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
      // In the order of the document, so that little is out of order.
      let used = 0;
      for (const [op, index] of missing) {
        const slot = free[used++];
        if (!slot) {
          more.push({ id: this.made++, op: signal(op), index: signal(index), seen: signal(true) });
          continue;
        }
        slot.op.value = op;
        slot.index.value = index;
      }
      const gone = new Set(free.slice(used));
      if (gone.size > 0 || more.length > 0)
        this.list = [...this.list.filter((slot) => !gone.has(slot)), ...more];
    });
  }

  /** Say which places are in view, both included. */
  look(from: number, to: number): void {
    batch(() => {
      for (const slot of this.list) slot.seen.value = at(slot) >= from && at(slot) <= to;
    });
  }

  /**
   * Bring some of them to where they are read, for whoever copies rows or hears them read; the fewest that are not.
   *
   * @returns whether any had to move
   */
  sort(most: number): boolean {
    const sorted = longestRun(this.list);
    const moving = this.list.filter((slot) => !sorted.has(slot)).slice(0, most);
    if (moving.length === 0) return false;
    const list = this.list.filter((slot) => !moving.includes(slot));
    for (const slot of moving) {
      const before = list.findIndex((other) => sorted.has(other) && at(other) > at(slot));
      list.splice(before < 0 ? list.length : before, 0, slot);
      sorted.add(slot);
    }
    this.list = list;
    return true;
  }
}

const at = (slot: Slot): number => slot.index.peek();

/** As many of them as possible that follow each other in order. */
function longestRun(list: readonly Slot[]): Set<Slot> {
  /** the longest run that ends with each */
  const runs: Slot[][] = [];
  let longest: Slot[] = [];
  for (const slot of list) {
    let before: Slot[] = [];
    for (const run of runs) if (run.length > before.length && at(run.at(-1)!) < at(slot)) before = run;
    const run = [...before, slot];
    runs.push(run);
    if (run.length > longest.length) longest = run;
  }
  return new Set(longest);
}
