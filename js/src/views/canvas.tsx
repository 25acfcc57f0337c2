import { type ReadonlySignal, useComputed, useSignal } from "@preact/signals";
import type { VNode } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { GraphController } from "../graph/controller";
import { alikeModules, repeatsOf } from "../repeats";
import { useGuard } from "./failure";
import { Minimap } from "./minimap";
import { GraphTree } from "./tree";

const DRAG_SLACK = 4;
const HINT = "Double-click a box to open it · drag to move · shift-drag to select";

/** A press on the canvas: where it began, where the pointer was last, and what it does once it moves. */
interface Drag {
  from: { x: number; y: number };
  x: number;
  y: number;
  band: boolean;
  moved: boolean;
}

/** The picture and what lies on it: the tree for keys, the map, a line on a box. Pans, zooms and selects. */
export function Canvas({ graph, uid }: { graph: GraphController; uid: string }): VNode {
  const { store } = graph;
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const drag = useRef<Drag | null>(null);
  const inside = useSignal(false);
  const guard = useGuard();

  useLayoutEffect(() => {
    const detach = graph.attach(canvas.current!, guard);
    const observer = new ResizeObserver(([entry]) => {
      if (entry) graph.resize(entry.contentRect.width, entry.contentRect.height);
    });
    observer.observe(box.current!);
    // Only with ctrl or ⌘, so that the page still scrolls; not passive, so that the browser does not zoom.
    const wheel = (e: WheelEvent): void => {
      if (!e.ctrlKey && !e.metaKey) return;
      e.preventDefault();
      graph.view.zoom(Math.exp(-e.deltaY * 0.002), ...place(e));
    };
    const el = box.current!;
    el.addEventListener("wheel", wheel, { passive: false });
    return () => {
      detach();
      observer.disconnect();
      el.removeEventListener("wheel", wheel);
    };
  }, [graph, guard]);

  const place = (e: MouseEvent): [number, number] => {
    const { left, top } = box.current!.getBoundingClientRect();
    return [e.clientX - left, e.clientY - top];
  };
  const drawBand = (d: Drag): void => {
    const { left, top } = box.current!.getBoundingClientRect();
    const [x0, y0] = graph.view.at(d.from.x - left, d.from.y - top);
    const [x1, y1] = graph.view.at(d.x - left, d.y - top);
    graph.band.value = {
      x: Math.min(x0, x1),
      y: Math.min(y0, y1),
      width: Math.abs(x1 - x0),
      height: Math.abs(y1 - y0),
    };
  };
  const down = (e: PointerEvent): void => {
    if (e.button !== 0) return;
    box.current!.setPointerCapture(e.pointerId);
    const from = { x: e.clientX, y: e.clientY };
    drag.current = { from, ...from, band: e.shiftKey || graph.selecting.peek(), moved: false };
  };
  const move = (e: PointerEvent): void => {
    const d = drag.current;
    if (!d) {
      const item = graph.hit(...place(e))?.item;
      box.current!.style.cursor = item ? "pointer" : graph.selecting.peek() ? "crosshair" : "grab";
      graph.hover(item);
      return;
    }
    const [dx, dy] = [e.clientX - d.x, e.clientY - d.y];
    if (!d.moved && Math.hypot(dx, dy) < DRAG_SLACK) return;
    Object.assign(d, { x: e.clientX, y: e.clientY, moved: true });
    if (d.band) drawBand(d);
    else graph.view.pan(dx, dy);
  };
  const up = (e: PointerEvent): void => {
    const d = drag.current;
    drag.current = null;
    if (!d) return;
    const more = e.ctrlKey || e.metaKey;
    const had = (): readonly number[] => store.selection.peek().ops;
    if (d.moved) {
      if (!d.band) return;
      const ops = graph.opsInBand();
      graph.band.value = null;
      store.select(more ? [...had(), ...ops] : ops, "graph");
      return;
    }
    const found = graph.hit(...place(e));
    if (!found) store.select([], "graph");
    else if (found.toggle) graph.setExpanded(found.item, !found.item.expanded);
    else if (more) store.toggle(graph.opsOf(found.item), "graph");
    else if (e.shiftKey) store.select([...had(), ...graph.opsOf(found.item)], "graph");
    else store.select(graph.opsOf(found.item), "graph");
  };
  const cancel = (): void => {
    drag.current = null;
    graph.band.value = null;
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the tree inside is the same graph for keys
    <div
      ref={box}
      class="tlr-canvas"
      onPointerDown={down}
      onPointerMove={move}
      onPointerUp={up}
      onPointerCancel={cancel}
      onPointerEnter={() => {
        inside.value = true;
      }}
      onPointerLeave={() => {
        inside.value = false;
        if (!drag.current) store.hoverOp(-1);
      }}
      onDblClick={(e) => {
        const found = graph.hit(...place(e));
        if (found?.item.expandable && !found.toggle) graph.setExpanded(found.item, !found.item.expanded);
      }}
    >
      <canvas ref={canvas} data-testid="graph-canvas" />
      <GraphTree graph={graph} uid={uid} />
      <div class="tlr-corners">
        <Minimap graph={graph} />
        <Alike graph={graph} />
      </div>
      <Readout graph={graph} inside={inside} />
    </div>
  );
}

/** A line on the box under the pointer, or on what can be done where there is none. */
function Readout({ graph, inside }: { graph: GraphController; inside: ReadonlySignal<boolean> }): VNode {
  // Computed, and not written by an effect: that would be on screen a frame after the picture.
  const line = useComputed(() => {
    if (!inside.value) return "";
    const item = graph.picture.value.scene.items[graph.hovered.value];
    return item ? graph.figures.describe(item) : HINT;
  });
  return (
    <div class="tlr-readout tlr-ellipsis" aria-hidden hidden={useComputed(() => line.value === "")}>
      <bdi>{line}</bdi>
    </div>
  );
}

/** Keeps presses on what lies over the canvas from the canvas. */
const keep = {
  onPointerDown: (e: Event): void => e.stopPropagation(),
  onPointerUp: (e: Event): void => e.stopPropagation(),
  onPointerMove: (e: Event): void => e.stopPropagation(),
  onDblClick: (e: Event): void => e.stopPropagation(),
};

/** What was done to one of several equal modules is offered for all of them. */
function Alike({ graph }: { graph: GraphController }): VNode {
  const { store } = graph;
  const closed = useComputed(() => graph.closedAlike()).value;
  const repeats = useComputed(() => {
    const { ops, origin } = store.selection.value;
    if (origin !== "graph" || ops.length === 0) return null;
    const found = repeatsOf(store.program.value, ops);
    // A norm that is like all others is no reason to offer anything for the module around it.
    return found && found.outside === 0 && found.ops.length > ops.length ? found : null;
  }).value;
  const { alike } = store.program.value.modules;
  const count = alikeModules(store.program.value).get(alike[graph.opened.value] ?? -1)?.length ?? 0;
  return (
    <div class="tlr-alike" {...keep}>
      {closed.length > 0 && (
        <button
          type="button"
          class="tlr-button"
          title="Open every module that is built like the one just opened"
          onClick={() => graph.openAlike()}
        >
          Open all {count} alike
        </button>
      )}
      {repeats && (
        <button
          type="button"
          class="tlr-button tlr-alike-select"
          title="Select the same ops in every module that is built alike"
          onClick={() => store.select(repeats.ops, "graph")}
        >
          Select in all {repeats.count} alike
        </button>
      )}
    </div>
  );
}
