/**
 * Steps of a drag that are taken beforehand, while the browser has nothing to do: the first ones of a page run code for
 * the first time, find what is found once, and take longer than a frame.
 */

import { assignScheme, familySchemes } from "./schemes";
import type { Store } from "./store";

/** From then on the browser has compiled most of what a step runs. */
const STEPS = 4;
/** What a step sets at most, so that one takes little longer in a large model. */
const WEIGHTS = 2000;
/** Between two frames of what moves there is less time than this. */
const IDLE_MS = 30;

/** Rehearse a drag of all weights, one step at a time; call what comes back to leave it at that. */
export function rehearse(store: Store): () => void {
  // Not every browser says when it is idle.
  if (typeof requestIdleCallback === "undefined") return () => undefined;
  let left = STEPS;
  const step = (idle: IdleDeadline): void => {
    if (idle.timeRemaining() >= IDLE_MS) {
      rehearseStep(store);
      left--;
    }
    if (left > 0) asked = requestIdleCallback(step);
  };
  let asked = requestIdleCallback(step);
  return () => cancelIdleCallback(asked);
}

function rehearseStep({ costs, edits, preferredFamily, targets }: Store): void {
  const held = edits.held.peek();
  const weights = Int32Array.from(targets.peek()).subarray(0, WEIGHTS);
  const scheme = familySchemes(costs.peek(), preferredFamily.peek()).find((s) => s !== held[weights[0]!]);
  if (scheme !== undefined) edits.rehearse(assignScheme(costs.peek(), weights, scheme, held));
}
