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

/** This many of the innermost frames are named. */
const NAMED = 2;

/** Frames around what was last selected; a press shows that frame whole. Where they are many, those between are one. */
function Breadcrumb({ graph }: { graph: GraphController }): VNode {
  const { scene } = graph.picture.value;
  const first = graph.store.selection.value.ops[0];
  const chain: Item[] = [];
  let id = first === undefined ? -1 : (scene.itemOfOp[first] ?? -1);
  for (; id >= 0; id = scene.items[id]!.parent) chain.unshift(scene.items[id]!);
  const frames = chain.filter((item) => item.kind !== "op");
  const between = frames.length > NAMED + 1 ? frames.slice(0, -NAMED) : [];
  return (
    <nav class="tlr-crumbs" aria-label="Where in the model">
      <button type="button" title="Show the whole graph" onClick={() => graph.fit()}>
        model
      </button>
      {between.length > 0 && <Crumb graph={graph} item={between.at(-1)!} label="…" />}
      {frames.slice(between.length).map((item) => (
        <Crumb key={item.id} graph={graph} item={item} label={item.label} />
      ))}
    </nav>
  );
}

function Crumb({ graph, item, label }: { graph: GraphController; item: Item; label: string }): VNode {
  const path = graph.tree.value.path[item.index];
  return (
    <span class="tlr-crumb">
      <span class="tlr-faint">/</span>
      <button
        type="button"
        aria-label={label === item.label ? undefined : path}
        title={path}
        onClick={() => graph.fit(item)}
      >
        <bdi>{label}</bdi>
      </button>
    </span>
  );
}
