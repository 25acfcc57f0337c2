import type { VNode } from "preact";
import type { Store } from "../store";
import { ProgressBar } from "./progressBar";

const ENDED =
  "The kernel ended before this was done. What was measured is kept: the next run goes on from it.";

/** Whether a run is on: one that Python was in the middle of when its session ended is not. */
function isRunning({ refining, presence }: Store): boolean {
  return refining.value.running && ["", "away"].includes(presence.absence.value);
}

/** The part of the Optimize panel that has Python measure plans on the session's data, and take the best. */
export function Refine({ store, kept }: { store: Store; kept: readonly number[] }): VNode {
  const { refiner } = store;
  const { unavailable, running, stage, done, ok, message } = store.refining.value;
  const now = isRunning(store);
  const waiting = refiner.waiting.value && !now;
  const refusal = refiner.refusal.value;
  const said = refusal || (running && !now ? ENDED : message);
  const failed = refusal !== "" || !ok;
  return (
    <section class="tlr-optimize-refine" aria-label="Refine by measuring">
      <div class="tlr-optimize-row">
        <h3>Refine by measuring</h3>
        {now ? (
          <button type="button" class="tlr-button" onClick={() => void refiner.cancel()}>
            Cancel
          </button>
        ) : (
          <button
            type="button"
            class="tlr-button"
            disabled={unavailable !== "" || waiting}
            onClick={() => void refiner.start(kept)}
          >
            Refine
          </button>
        )}
      </div>
      <p class="tlr-muted tlr-optimize-says">
        {unavailable ||
          "Measures this plan and others whole on your data, and takes the best within the same budget. " +
            "That takes minutes; cells can run and plans be edited meanwhile."}
      </p>
      {(now || waiting) && <ProgressBar label="Refining" progress={now ? { stage, done } : null} />}
      <p
        class={`tlr-optimize-found${failed ? " tlr-error" : ""}`}
        role={failed && said !== "" ? "alert" : "status"}
      >
        {now || waiting ? "" : said}
      </p>
    </section>
  );
}

/** On the button of the menu, which may be closed: how far a run is. */
export function RefineMark({ store }: { store: Store }): VNode | null {
  if (!isRunning(store)) return null;
  const { done } = store.refining.value;
  return <span class="tlr-optimize-mark" style={{ transform: `scaleX(${done})` }} />;
}
