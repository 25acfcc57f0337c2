import { useComputed } from "@preact/signals";
import type { VNode } from "preact";
import type { GraphController } from "../graph/controller";
import { certainty, isDiverging, say, valueAt } from "../graph/metrics";
import { rampGradient } from "../theme";
import { useStyle } from "./inline";

const HINT = "Double-click a box to open it · drag to move · shift-drag to select";
const TICKS = [0, 0.5, 1] as const;

/** Legend of the colours, on which the box under the pointer is marked, and a line on that box. */
export function Legend({ graph }: { graph: GraphController }): VNode {
  const { figures } = graph;
  const dark = graph.palette.value?.dark ?? false;
  const metric = figures.metric.value;
  const most = figures.most.value;
  // Computed, and not written by an effect: that would be on screen a frame after the picture.
  const item = useComputed(() => graph.picture.value.scene.items[graph.hovered.value]);
  const line = useComputed(() => (item.value ? figures.describe(item.value) : ""));
  const said = useComputed(() => line.value || HINT);
  // Painted elsewhere and not laid out anew: a drag moves it in every frame.
  const place = useComputed(() => {
    const mark = item.value ? figures.position(item.value) : Number.NaN;
    return Number.isNaN(mark) ? "-9px 0" : `${mark * 100}% 0`;
  });
  const how = certainty(metric);
  return (
    <div class="tlr-graph-foot">
      <div class="tlr-legend" title={`Colour: ${metric}, ${how}`}>
        <span class="tlr-legend-ramp" style={{ background: rampGradient(dark, isDiverging(metric)) }}>
          <div class="tlr-legend-mark" ref={useStyle("backgroundPosition", place)} />
        </span>
        <span class="tlr-legend-ticks">
          {TICKS.map((at) => (
            <span key={at}>{say(metric, valueAt(metric, at, most))}</span>
          ))}
        </span>
      </div>
      <div class="tlr-readout tlr-ellipsis" title={line}>
        <bdi>{said}</bdi>
      </div>
    </div>
  );
}
