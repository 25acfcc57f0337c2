/** State of one graph view: what is open, what is marked, and repainting when anything it reads changes. */

import { computed, effect, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import { alikeModules } from "../repeats";
import type { Store } from "../store";
import type { Palette } from "../theme";
import {
  buildScene,
  buildTree,
  type Item,
  isInside,
  keyOf,
  type ModuleTree,
  openingModules,
  opsInside,
  type Scene,
} from "./collapse";
import { drawScene } from "./draw";
import { Figures } from "./figures";
import { boxesIn, type Hit, hitTest } from "./hit";
import { type Layout, layoutScene } from "./layout";
import { isDiverging } from "./metrics";
import { type Box, Viewport } from "./viewport";

export interface Picture {
  scene: Scene;
  layout: Layout;
}

export class GraphController {
  readonly tree: ReadonlySignal<ModuleTree>;
  /** what is open, by `keyOf` */
  readonly expanded: Signal<ReadonlySet<number>>;
  readonly picture: ReadonlySignal<Picture>;
  readonly figures: Figures;
  readonly view = new Viewport();
  /** whether a drag draws a rectangle around boxes instead of moving the picture */
  readonly selecting: Signal<boolean> = signal(false);
  /** the rectangle that is being drawn around boxes, in the picture */
  readonly band: Signal<Box | null> = signal(null);
  /** the module that was opened last, to offer the same for all that are built alike */
  readonly opened: Signal<number> = signal(-1);

  /** the box to light up for the shared hover, or -1: the module itself, or whatever stands for the op */
  readonly hovered: ReadonlySignal<number> = computed(() => this.hoveredItem());

  private readonly selectedOps: ReadonlySignal<Int32Array>;
  private canvas: HTMLCanvasElement | null = null;
  private placed = false;

  constructor(
    readonly store: Store,
    readonly palette: Signal<Palette | null>,
  ) {
    this.tree = computed(() => buildTree(store.program.value));
    this.expanded = signal(openingModules(this.tree.value));
    this.picture = computed(() => {
      const scene = buildScene(store.program.value, this.tree.value, this.expanded.value);
      return { scene, layout: layoutScene(scene) };
    });
    this.figures = new Figures(
      store,
      this.tree,
      computed(() => this.picture.value.scene),
    );
    this.selectedOps = computed(() => {
      const tree = this.tree.value;
      const counts = new Int32Array(tree.path.length);
      for (const op of store.selection.value.ops) counts[tree.opModule[op]!]!++;
      for (let m = counts.length - 1; m > 0; m--) counts[tree.parent[m]!]! += counts[m]!;
      return counts;
    });
  }

  /** 0 none, 1 some, 2 all ops of the box are selected. */
  selectedState(item: Item): 0 | 1 | 2 {
    if (item.kind === "op") return this.store.selection.value.has.has(item.index) ? 2 : 0;
    let [selected, all] = [0, 0];
    for (const m of item.modules) {
      selected += this.selectedOps.value[m]!;
      all += this.tree.value.opCount[m]!;
    }
    return selected === 0 ? 0 : selected === all ? 2 : 1;
  }

  opsOf(item: Item): number[] {
    return item.kind === "op" ? [item.index] : item.modules.flatMap((m) => opsInside(this.tree.value, m));
  }

  private hoveredItem(): number {
    const hover = this.store.hover.value;
    if (!hover) return -1;
    const { scene } = this.picture.value;
    if (hover.op >= 0) return scene.itemOfOp[hover.op] ?? -1;
    const [first] = hover.modules;
    const same = (item: Item): boolean =>
      item.kind !== "op" && item.index === first && item.modules.length === hover.modules.length;
    const exact = scene.items.findIndex(same);
    // Of another view, where more or less is open: the innermost box that stands for it.
    return exact >= 0 ? exact : scene.items.findLastIndex((item) => item.modules.includes(first!));
  }

  hover(item: Item | undefined): void {
    if (!item) this.store.hoverOp(-1);
    else if (item.kind === "op") this.store.hoverOp(item.index);
    else this.store.hoverModules(item.modules);
  }

  // ---- opening and closing -----------------------------------------------------------------------------

  setExpanded(item: Item, open: boolean): void {
    const key = keyOf(item);
    if (this.expanded.peek().has(key) === open) return;
    const before = this.boxOf(key);
    const next = new Set(this.expanded.peek());
    if (open) next.add(key);
    else for (const k of [...next]) if (this.isKeyInside(k, item)) next.delete(k);
    this.expanded.value = next;
    this.opened.value = open && item.kind === "module" ? item.index : -1;
    // The box that was clicked stays under the pointer; everything else makes room.
    const after = this.boxOf(key);
    if (!before || !after) return;
    this.view.keep(before, after);
    if (open) this.view.showFrame(after);
    this.view.changed();
  }

  private isKeyInside(key: number, item: Item): boolean {
    if (key === keyOf(item)) return true;
    // The stack that begins with a module is around it.
    if (key < 0 && item.kind === "module" && ~key === item.index) return false;
    return item.modules.some((m) => isInside(this.tree.peek(), key < 0 ? ~key : key, m));
  }

  /** Modules that are built like the one that was just opened and are closed. */
  closedAlike(): number[] {
    const module = this.opened.value;
    const program = this.store.program.value;
    const twins = module < 0 ? undefined : alikeModules(program).get(program.modules.alike[module]!);
    return (twins ?? []).filter((m) => !this.expanded.value.has(m));
  }

  openAlike(): void {
    this.expanded.value = new Set([...this.expanded.peek(), ...this.closedAlike()]);
  }

  private boxOf(key: number): Box | null {
    const item = this.picture.peek().scene.items.find((i) => i.kind !== "op" && keyOf(i) === key);
    return item ? this.box(item.id) : null;
  }

  box(id: number): Box {
    const b = this.picture.peek().layout.boxes;
    return { x: b[id * 4]!, y: b[id * 4 + 1]!, width: b[id * 4 + 2]!, height: b[id * 4 + 3]! };
  }

  /** Where the middle of a box is on screen. */
  middleOnScreen(id: number): [number, number] {
    const { x, y, width, height } = this.box(id);
    const { camera } = this.view;
    return [(x + width / 2) * camera.scale + camera.x, (y + height / 2) * camera.scale + camera.y];
  }

  /** All of the picture. */
  bounds(): Box {
    const { width, height } = this.picture.value.layout;
    return { x: 0, y: 0, width, height };
  }

  /** Show all of it, or all of one box. */
  fit(item?: Item): void {
    this.view.fit(item ? this.box(item.id) : this.bounds());
  }

  reveal(id: number): void {
    this.view.reveal(this.box(id));
  }

  hit(x: number, y: number): Hit | null {
    const { scene, layout } = this.picture.peek();
    return hitTest(scene, layout, ...this.view.at(x, y));
  }

  /** Ops of the boxes that the band touches. */
  opsInBand(): number[] {
    const { scene, layout } = this.picture.peek();
    const band = this.band.peek();
    return band ? boxesIn(scene, layout, band).flatMap((item) => this.opsOf(item)) : [];
  }

  // ---- drawing -----------------------------------------------------------------------------------------

  resize(width: number, height: number): void {
    if (width === 0 || height === 0) return;
    const grown = width - this.view.size.width;
    const ratio = window.devicePixelRatio || 1;
    Object.assign(this.view.size, { width, height, ratio });
    if (this.canvas) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    if (this.placed) this.view.pan(grown / 2, 0);
    else {
      this.placed = true;
      this.view.open(this.bounds());
    }
  }

  /**
   * Paint whenever something that shows has changed. Painting happens inside the change itself and not in a later
   * frame, so that totals, rows and picture are on screen together.
   *
   * @param guard runs what paints, and takes its errors
   */
  attach(canvas: HTMLCanvasElement, guard: (paint: () => void) => void): () => void {
    this.canvas = canvas;
    const ctx = canvas.getContext("2d");
    const stopPainting = effect(() => guard(() => ctx && this.paint(ctx)));
    const stopFollowing = effect(() => {
      const { ops, origin } = this.store.selection.value;
      if (origin === "graph" || ops.length === 0 || !this.placed) return;
      const id = this.picture.peek().scene.itemOfOp[ops[0]!] ?? -1;
      if (id >= 0) this.reveal(id);
    });
    return () => {
      stopPainting();
      stopFollowing();
      this.canvas = null;
    };
  }

  private paint(ctx: CanvasRenderingContext2D): void {
    this.view.moved.value;
    const palette = this.palette.value;
    const { scene, layout } = this.picture.value;
    const { figures } = this;
    const hover = this.hovered.value;
    const band = this.band.value;
    if (!palette || this.view.size.width === 0) return;
    drawScene(ctx, this.view, scene, layout, palette, {
      value: (id) => figures.position(scene.items[id]!),
      diverging: isDiverging(figures.metric.value),
      figure: (id) => figures.figure(scene.items[id]!),
      selected: (id) => this.selectedState(scene.items[id]!),
      hover,
      band,
    });
  }
}
