import type { Signal } from "@preact/signals";
import type { VNode } from "preact";
import { useMemo } from "preact/hooks";
import type { Item } from "../graph/collapse";
import { GraphController } from "../graph/controller";
import { METRICS } from "../graph/metrics";
import type { Store } from "../store";
import type { Palette } from "../theme";
import { Canvas } from "./canvas";
import { Choice } from "./choice";
import { Legend } from "./legend";
import { Zoom } from "./zoom";

interface GraphProps {
  store: Store;
  palette: Signal<Palette | null>;
  uid: string;
}

export function GraphView({ store, palette, uid }: GraphProps): VNode {
  const program = store.program.value;
  // The program is a dependency because a new one is a new picture.
  const graph = useMemo(() => new GraphController(store, palette), [store, palette, program]);
  return (
    <section class="tlr-graph" aria-label="Graph">
      <div class="tlr-toolbar">
        <Breadcrumb graph={graph} />
        <Choice
          text="colour by"
          label="Colour by"
          value={graph.figures.metric.value}
          options={METRICS}
          button
          change={(metric) => {
            graph.figures.metric.value = metric;
          }}
        />
      </div>
      <Canvas graph={graph} uid={uid} />
      <div class="tlr-graph-foot">
        <Legend graph={graph} />
        <Zoom graph={graph} />
      </div>
    </section>
  );
}

/** Frames around what was last selected; a press shows that frame whole. */
function Breadcrumb({ graph }: { graph: GraphController }): VNode {
  const { scene } = graph.picture.value;
  const first = graph.store.selection.value.ops[0];
  const chain: Item[] = [];
  let id = first === undefined ? -1 : (scene.itemOfOp[first] ?? -1);
  for (; id >= 0; id = scene.items[id]!.parent) chain.unshift(scene.items[id]!);
  const shown = chain.filter((item) => item.kind !== "op");
  return (
    <nav class="tlr-crumbs" aria-label="Where in the model">
      <button type="button" title="Show the whole graph" onClick={() => graph.fit()}>
        model
      </button>
      {shown.map((item) => (
        <span key={item.id} class="tlr-ellipsis">
          <span class="tlr-faint">/</span>
          <button type="button" title={graph.tree.value.path[item.index]} onClick={() => graph.fit(item)}>
            <bdi>{item.label}</bdi>
          </button>
        </span>
      ))}
    </nav>
  );
}
