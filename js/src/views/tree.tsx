import { untracked, useSignal, useSignalEffect } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import * as format from "../format";
import type { Item } from "../graph/collapse";
import type { GraphController } from "../graph/controller";
import { ZOOM_STEP } from "../graph/viewport";
import { zoomBy } from "../keys";

/** With more boxes than this only those in view have an element. */
const ALL_ITEMS = 300;
/** Spoken figures follow a drag when it pauses; nobody can listen to sixty values a second. */
const SPEAK_DELAY_MS = 250;
/** How far Shift and an arrow move the picture, in pixels: one looks where the arrow points. */
const PAN: Record<string, readonly [number, number]> = {
  ArrowLeft: [60, 0],
  ArrowRight: [-60, 0],
  ArrowUp: [0, 60],
  ArrowDown: [0, -60],
};

/**
 * The graph as a tree for keyboards and screen readers: transparent elements that lie exactly over their boxes. The
 * pointer goes through them to the canvas.
 */
export function GraphTree({ graph, uid }: { graph: GraphController; uid: string }): VNode {
  const { scene } = graph.picture.value;
  const layer = useRef<HTMLDivElement>(null);
  const [current, setCurrent] = useState(0);
  const wantFocus = useRef(false);
  const spoken = useSignal(0);
  const viewKey = useSignal("");

  useSignalEffect(() => {
    graph.view.moved.value;
    const { x, y, scale } = graph.view.camera;
    if (layer.current) layer.current.style.transform = `matrix(${scale},0,0,${scale},${x},${y})`;
    // A coarse key: the list is made again only when the camera went a good part of a screen.
    if (graph.picture.value.scene.items.length > ALL_ITEMS)
      viewKey.value = [x / 300, y / 300, scale * 4].map(Math.round).join();
  });
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = graph.store.prices.calm.subscribe(() => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        spoken.value++;
      }, SPEAK_DELAY_MS);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [graph, spoken]);
  useLayoutEffect(() => {
    if (!wantFocus.current) return;
    wantFocus.current = false;
    layer.current?.querySelector<HTMLElement>("[tabindex='0']")?.focus({ preventScroll: true });
  });

  spoken.value;
  viewKey.value;
  const now = Math.min(current, scene.items.length - 1);
  const go = (id: number): void => {
    wantFocus.current = true;
    setCurrent(id);
    graph.reveal(id);
  };
  const open = (item: Item, expanded: boolean): void => {
    graph.setExpanded(item, expanded);
    const next = graph.picture
      .peek()
      .scene.items.findIndex((i) => i.kind === item.kind && i.index === item.index);
    go(Math.max(0, next));
  };
  const key = (e: KeyboardEvent): void => {
    const item = scene.items[now];
    if (!item || e.altKey) return;
    const zoom = zoomBy(e, ZOOM_STEP);
    const [dx, dy] = (e.shiftKey && PAN[e.key]) || [0, 0];
    if (zoom === 0) graph.fit();
    else if (zoom) graph.view.zoom(zoom, ...graph.middleOnScreen(item.id));
    else if (dx !== 0 || dy !== 0) graph.view.pan(dx, dy);
    // Items are numbered as a tree is read, so the next number is the next line.
    else if (e.key === "ArrowDown") go(Math.min(scene.items.length - 1, now + 1));
    else if (e.key === "ArrowUp") go(Math.max(0, now - 1));
    else if (e.key === "Home") go(0);
    else if (e.key === "End") go(scene.items.length - 1);
    else if (e.key === "ArrowRight") {
      if (item.expandable && !item.expanded) open(item, true);
      else if (item.expanded) go(now + 1);
    } else if (e.key === "ArrowLeft") {
      if (item.expanded) open(item, false);
      else if (item.parent >= 0) go(item.parent);
    } else if (e.key === "Enter" || e.key === " ") {
      if (e.ctrlKey || e.metaKey || e.key === " ") graph.store.toggle(graph.opsOf(item), "graph");
      else graph.store.select(graph.opsOf(item), "graph");
    } else return;
    e.preventDefault();
    e.stopPropagation();
  };

  const items = scene.items.length > ALL_ITEMS ? inView(graph, scene.items, now) : scene.items;
  return (
    <div
      ref={layer}
      class="tlr-tree"
      role="tree"
      aria-label="Modules and ops"
      aria-multiselectable
      onKeyDown={key}
    >
      {items.map((item) => {
        const box = graph.box(item.id);
        return (
          <div
            key={`${item.kind}${item.index}`}
            id={`${uid}-item-${item.kind}${item.index}`}
            role="treeitem"
            class="tlr-treeitem"
            tabIndex={item.id === now ? 0 : -1}
            aria-level={item.level}
            aria-label={nameOf(graph, item)}
            aria-expanded={item.expandable ? item.expanded : undefined}
            aria-selected={graph.selectedState(item) === 2}
            data-kind={item.kind}
            style={{
              left: `${box.x}px`,
              top: `${box.y}px`,
              width: `${box.width}px`,
              height: `${box.height}px`,
            }}
            onFocus={() => setCurrent(item.id)}
          />
        );
      })}
    </div>
  );
}

function nameOf(graph: GraphController, item: Item): string {
  const { program } = graph.store;
  const state = graph.selectedState(item) === 1 ? ", partly selected" : "";
  const metric = graph.figures.metric.value;
  const figure = untracked(() => graph.figures.figure(item));
  const isShare = metric === "size" || metric === "latency" || metric === "FLOPs";
  const share = figure === "" ? "" : isShare ? `${figure} of ${metric}` : `${metric} ${figure}`;
  const tail = `${share === "" ? "" : `, ${share}`}${state}`;
  if (item.kind === "op") return `${item.label} ${program.value.ops.name[item.index]}${tail}`;
  const { path, opCount } = graph.tree.value;
  const ops = item.modules.reduce((sum, m) => sum + opCount[m]!, 0);
  const name = item.kind === "stack" ? item.label : path[item.index] || "model";
  const alike = item.repeats > 1 ? `, ${item.repeats} built alike` : "";
  return `${name}${alike}, ${format.plural(ops, "op")}${tail}`;
}

function inView(graph: GraphController, items: Item[], keep: number): Item[] {
  const { x, y, scale } = graph.view.camera;
  const { width, height } = graph.view.size;
  return items.filter((item) => {
    if (item.id === keep) return true;
    const box = graph.box(item.id);
    const [left, top] = [box.x * scale + x, box.y * scale + y];
    return (
      left < width + 400 &&
      left + box.width * scale > -400 &&
      top < height + 400 &&
      top + box.height * scale > -400
    );
  });
}
