import { untracked, useComputed, useSignalEffect } from "@preact/signals";
import type { VNode } from "preact";
import { useRef } from "preact/hooks";
import type { GraphController } from "../graph/controller";
import { isDiverging } from "../graph/metrics";
import { drawMap, freeCorner, fromMap, INSET, mapScale, onMap } from "../graph/minimap";
import type { Box } from "../graph/viewport";
import { useGuard } from "./failure";

/** On a smaller canvas the map would hide more than it shows. */
const LEAST_WIDTH = 300;
const LEAST_HEIGHT = 150;

/** The whole graph in a corner with a frame around what is on screen; there only while not all of it is. */
export function Minimap({ graph }: { graph: GraphController }): VNode | null {
  const away = useComputed(() => {
    graph.view.moved.value;
    const { width, height } = graph.view.size;
    return width >= LEAST_WIDTH && height >= LEAST_HEIGHT && !graph.view.holds(graph.bounds());
  });
  return away.value ? <Overview graph={graph} /> : null;
}

function Overview({ graph }: { graph: GraphController }): VNode {
  const canvas = useRef<HTMLCanvasElement>(null);
  const frame = useRef<HTMLDivElement>(null);
  const guard = useGuard();
  const room = useComputed(() => {
    graph.view.moved.value;
    return graph.view.size.height;
  });
  const scale = useComputed(() => mapScale(graph.picture.value.layout, room.value));
  useSignalEffect(() => {
    const ctx = canvas.current?.getContext("2d");
    const palette = graph.palette.value;
    const { scene, layout } = graph.picture.value;
    const { figures } = graph;
    const metric = figures.metric.value;
    graph.store.prices.calm.value;
    graph.store.prices.baseline.value;
    const map = scale.value;
    const ratio = graph.view.size.ratio;
    if (!ctx || !palette) return;
    const [width, height] = [Math.round(map.width * ratio), Math.round(map.height * ratio)];
    if (ctx.canvas.width !== width) ctx.canvas.width = width;
    if (ctx.canvas.height !== height) ctx.canvas.height = height;
    untracked(() =>
      guard(() =>
        drawMap(ctx, map, ratio, scene, layout, palette, {
          diverging: isDiverging(metric),
          value: (id) => figures.position(scene.items[id]!),
        }),
      ),
    );
  });
  useSignalEffect(() => {
    graph.view.moved.value;
    const map = scale.value;
    const shown = onMap(map, graph.view.shown());
    if (!frame.current) return;
    const [x, y] = [Math.max(0, shown.x), Math.max(0, shown.y)];
    const right = Math.min(map.width, shown.x + shown.width);
    const bottom = Math.min(map.height, shown.y + shown.height);
    frame.current.style.transform = `translate(${x}px,${y}px)`;
    frame.current.style.width = `${Math.max(3, right - x)}px`;
    frame.current.style.height = `${Math.max(3, bottom - y)}px`;
  });
  // Where it is found to be in the way of little, it stays while one moves the picture about.
  const corner = useComputed(() => {
    const { scene, layout } = graph.picture.value;
    const { width, height } = scale.value;
    const { camera, size } = graph.view;
    const boxAt = (left: number): Box => {
      const [x, y] = graph.view.at(left, size.height - INSET.bottom - height);
      return { x, y, width: width / camera.scale, height: height / camera.scale };
    };
    return freeCorner(scene, layout, boxAt(INSET.side), boxAt(size.width - INSET.side - width));
  });
  const look = (e: PointerEvent): void => {
    e.stopPropagation();
    if ((e.buttons & 1) === 0) return;
    const { left, top } = canvas.current!.getBoundingClientRect();
    graph.view.centre(...fromMap(scale.peek(), e.clientX - left, e.clientY - top));
  };
  const { width, height } = scale.value;
  return (
    // Keys reach every box through the tree: the map is a second way for the pointer only.
    <div
      class={`tlr-minimap is-${corner.value}`}
      aria-hidden
      data-testid="minimap"
      onPointerDown={(e) => {
        e.currentTarget.setPointerCapture(e.pointerId);
        look(e);
      }}
      onPointerMove={look}
      onPointerUp={(e) => e.stopPropagation()}
      onDblClick={(e) => e.stopPropagation()}
    >
      <canvas ref={canvas} style={{ width: `${width}px`, height: `${height}px` }} />
      <div ref={frame} class="tlr-minimap-frame" />
    </div>
  );
}
