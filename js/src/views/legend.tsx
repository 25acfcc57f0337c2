import { useComputed } from "@preact/signals";
import type { VNode } from "preact";
import type { GraphController } from "../graph/controller";
import { certainty, isDiverging, say, valueAt } from "../graph/metrics";
import { rampGradient } from "../theme";
import { useStyle } from "./inline";

const TICKS = [0, 0.5, 1] as const;

/** Legend of the colours, on which the box under the pointer is marked. */
export function Legend({ graph }: { graph: GraphController }): VNode {
  const { figures } = graph;
  const dark = graph.palette.value?.dark ?? false;
  const metric = figures.metric.value;
  const most = figures.most.value;
  // Painted elsewhere and not laid out anew: a drag moves it in every frame.
  const place = useComputed(() => {
    const item = graph.picture.value.scene.items[graph.hovered.value];
    const mark = item ? figures.position(item) : Number.NaN;
    return Number.isNaN(mark) ? "-9px 0" : `${mark * 100}% 0`;
  });
  return (
    <div class="tlr-legend" title={`Colour: ${metric}, ${certainty(metric)}`}>
      <span class="tlr-legend-ramp" style={{ background: rampGradient(dark, isDiverging(metric)) }}>
        <div class="tlr-legend-mark" ref={useStyle("backgroundPosition", place)} />
      </span>
      <span class="tlr-legend-ticks">
        {TICKS.map((at) => (
          <span key={at}>{say(metric, valueAt(metric, at, most))}</span>
        ))}
      </span>
    </div>
  );
}
