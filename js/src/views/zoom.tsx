import type { VNode } from "preact";
import type { GraphController } from "../graph/controller";
import { ZOOM_STEP } from "../graph/viewport";

/** What the wheel and the shift key do on the canvas, as buttons. */
export function Zoom({ graph }: { graph: GraphController }): VNode {
  const { selecting, view } = graph;
  return (
    <div class="tlr-zoom">
      <button
        type="button"
        class={`tlr-button is-icon tlr-band${selecting.value ? " is-on" : ""}`}
        aria-label="Select by dragging"
        aria-pressed={selecting.value}
        title="Drag to select boxes; shift does the same"
        onClick={() => {
          selecting.value = !selecting.value;
        }}
      >
        <span aria-hidden />
      </button>
      <button
        type="button"
        class="tlr-button is-icon"
        aria-label="Zoom out"
        onClick={() => view.zoom(1 / ZOOM_STEP)}
      >
        −
      </button>
      <button
        type="button"
        class="tlr-button is-icon"
        aria-label="Zoom in"
        onClick={() => view.zoom(ZOOM_STEP)}
      >
        +
      </button>
      <button type="button" class="tlr-button" title="Show the whole graph" onClick={() => graph.fit()}>
        Fit
      </button>
    </div>
  );
}
