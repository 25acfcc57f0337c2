import { type Signal, useSignal, useSignalEffect } from "@preact/signals";
import type { VNode } from "preact";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import * as format from "../format";
import type { Item } from "../graph/collapse";
import { GraphController } from "../graph/controller";
import { METRICS, type Metric, scaleInverse } from "../graph/metrics";
import type { Store } from "../store";
import { type Palette, rampGradient } from "../theme";
import { GraphTree } from "./tree";

interface GraphProps {
  store: Store;
  palette: Signal<Palette | null>;
  uid: string;
}

const DRAG_SLACK = 4;
const ZOOM_STEP = 1.25;

export function GraphView({ store, palette, uid }: GraphProps): VNode {
  const program = store.program.value;
  // The program is a dependency because a new one is a new picture.
  const graph = useMemo(() => new GraphController(store, palette), [store, palette, program]);
  return (
    <section class="tlr-graph" aria-label="Graph">
      <div class="tlr-toolbar">
        <Breadcrumb graph={graph} />
        <label class="tlr-muted">
          {"colour by "}
          <select
            class="tlr-select is-button"
            aria-label="Colour by"
            value={graph.metric.value}
            onChange={(e) => {
              graph.metric.value = e.currentTarget.value as Metric;
            }}
          >
            {METRICS.map((m) => (
              <option key={m} value={m}>
                {m}
              </option>
            ))}
          </select>
        </label>
      </div>
      <Canvas graph={graph} uid={uid} />
      <Footer graph={graph} />
    </section>
  );
}

function Canvas({ graph, uid }: { graph: GraphController; uid: string }): VNode {
  const { store } = graph;
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const drag = useRef<{ x: number; y: number; moved: boolean } | null>(null);

  useLayoutEffect(() => {
    const detach = graph.attach(canvas.current!);
    const observer = new ResizeObserver(([entry]) => {
      if (entry) graph.resize(entry.contentRect.width, entry.contentRect.height);
    });
    observer.observe(box.current!);
    // Only with ctrl or ⌘, so that the page still scrolls; not passive, so that the browser does not zoom.
    const wheel = (e: WheelEvent): void => {
      if (!e.ctrlKey && !e.metaKey) return;
      e.preventDefault();
      const { left, top } = box.current!.getBoundingClientRect();
      graph.zoom(Math.exp(-e.deltaY * 0.002), e.clientX - left, e.clientY - top);
    };
    const el = box.current!;
    el.addEventListener("wheel", wheel, { passive: false });
    return () => {
      detach();
      observer.disconnect();
      el.removeEventListener("wheel", wheel);
    };
  }, [graph]);

  const hit = (e: MouseEvent): ReturnType<GraphController["hit"]> => {
    const { left, top } = box.current!.getBoundingClientRect();
    return graph.hit(e.clientX - left, e.clientY - top);
  };
  const move = (e: PointerEvent): void => {
    const d = drag.current;
    if (d) {
      const [dx, dy] = [e.clientX - d.x, e.clientY - d.y];
      if (!d.moved && Math.hypot(dx, dy) < DRAG_SLACK) return;
      Object.assign(d, { x: e.clientX, y: e.clientY, moved: true });
      graph.pan(dx, dy);
      return;
    }
    const item = hit(e)?.item;
    box.current!.style.cursor = item ? "pointer" : "grab";
    store.setHover(item ? hoverOf(item) : null);
  };
  const up = (e: PointerEvent): void => {
    const d = drag.current;
    drag.current = null;
    if (!d || d.moved) return;
    const found = hit(e);
    if (!found) store.select([], "graph");
    else if (found.toggle) graph.setExpanded(found.item.index, !found.item.expanded);
    else if (e.ctrlKey || e.metaKey) store.toggle(graph.opsOf(found.item), "graph");
    else if (e.shiftKey) store.select([...store.selection.peek().ops, ...graph.opsOf(found.item)], "graph");
    else store.select(graph.opsOf(found.item), "graph");
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the tree inside is the same graph for keys
    <div
      ref={box}
      class="tlr-canvas"
      onPointerDown={(e) => {
        if (e.button !== 0) return;
        e.currentTarget.setPointerCapture(e.pointerId);
        drag.current = { x: e.clientX, y: e.clientY, moved: false };
      }}
      onPointerMove={move}
      onPointerUp={up}
      onPointerCancel={() => {
        drag.current = null;
      }}
      onPointerLeave={() => !drag.current && store.setHover(null)}
      onDblClick={(e) => {
        const found = hit(e);
        if (found?.item.expandable && !found.toggle)
          graph.setExpanded(found.item.index, !found.item.expanded);
      }}
    >
      <canvas ref={canvas} data-testid="graph-canvas" />
      <GraphTree graph={graph} uid={uid} />
      <Zoom graph={graph} />
    </div>
  );
}

function Zoom({ graph }: { graph: GraphController }): VNode {
  const keep = (e: Event): void => e.stopPropagation();
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: only keeps presses on the buttons from the canvas below
    <div class="tlr-zoom" onPointerDown={keep} onPointerUp={keep} onPointerMove={keep} onDblClick={keep}>
      <button
        type="button"
        class="tlr-button is-icon"
        aria-label="Zoom out"
        onClick={() => graph.zoom(1 / ZOOM_STEP)}
      >
        −
      </button>
      <button
        type="button"
        class="tlr-button is-icon"
        aria-label="Zoom in"
        onClick={() => graph.zoom(ZOOM_STEP)}
      >
        +
      </button>
      <button type="button" class="tlr-button" title="Show the whole graph" onClick={() => graph.fit()}>
        Fit
      </button>
    </div>
  );
}

const hoverOf = (item: Item): { op: number; module: number } =>
  item.kind === "op" ? { op: item.index, module: -1 } : { op: -1, module: item.index };

/** Frames around what was last selected; a press shows that frame whole. */
function Breadcrumb({ graph }: { graph: GraphController }): VNode {
  const { scene } = graph.picture.value;
  const first = graph.store.selection.value.ops[0];
  const chain: Item[] = [];
  let id = first === undefined ? -1 : (scene.itemOfOp[first] ?? -1);
  for (; id >= 0; id = scene.items[id]!.parent) chain.unshift(scene.items[id]!);
  const shown = chain.filter((item) => item.kind === "module");
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

/** Legend of the colours, and a line on whatever is under the pointer. */
function Footer({ graph }: { graph: GraphController }): VNode {
  const dark = graph.palette.value?.dark ?? false;
  const metric = graph.metric.value;
  const most = graph.domain.value;
  const say = (value: number): string =>
    metric === "size"
      ? format.bytes(value)
      : metric === "latency"
        ? `${format.ABOUT}${format.milliseconds(value)}${format.THIN}ms`
        : `${value}${format.THIN}bits`;
  const line = useSignal("");
  useSignalEffect(() => {
    const id = graph.hoveredItem();
    const item = id >= 0 ? graph.picture.value.scene.items[id] : undefined;
    line.value = item ? graph.describe(item) : "";
  });
  return (
    <div class="tlr-graph-foot">
      <div class="tlr-legend" title={`Colour: ${metric}, ${metric === "latency" ? "estimated" : "exact"}`}>
        <span class="tlr-legend-ramp" style={{ background: rampGradient(dark) }} />
        <span class="tlr-legend-ticks">
          <span>0</span>
          <span>{say(scaleInverse(metric, 0.5) * most)}</span>
          <span>{say(most)}</span>
        </span>
      </div>
      <div class="tlr-readout tlr-ellipsis" title={line.value}>
        <bdi>{line.value || "Double-click a box to open it"}</bdi>
      </div>
    </div>
  );
}
