import type { VNode } from "preact";
import * as format from "../format";
import type { Progress } from "../requests";

/** How far something is that Python does; null until the kernel begins. */
export function ProgressBar({ label, progress }: { label: string; progress: Progress | null }): VNode {
  const done = progress?.done ?? 0;
  return (
    <div class="tlr-progress">
      <div
        class="tlr-progress-track"
        role="progressbar"
        tabIndex={-1}
        aria-label={label}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(100 * done)}
        aria-valuetext={progress ? `${progress.stage}, ${format.share(done, 1)}` : "waiting for the kernel"}
      >
        <div style={{ transform: `scaleX(${done})` }} />
      </div>
      <span class="tlr-muted tlr-ellipsis">{progress ? progress.stage : "waiting for the kernel…"}</span>
    </div>
  );
}
