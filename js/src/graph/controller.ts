/** State and drawing of one graph view: what is expanded, the camera, and repainting when anything it reads changes. */

import { computed, effect, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import * as format from "../format";
import type { Store } from "../store";
import type { Palette } from "../theme";
import {
  buildScene,
  buildTree,
  type Item,
  isInside,
  type ModuleTree,
  openingModules,
  opsInside,
  type Scene,
} from "./collapse";
import { type Camera, drawScene } from "./draw";
import { type Hit, hitTest } from "./hit";
import { type Layout, layoutScene } from "./layout";
import { createSums, type Metric, type ModuleSums, scaled, sumModules, weightOwners } from "./metrics";

const MARGIN = 14;
const MIN_SCALE = 0.05;
const MAX_SCALE = 3;
/** Below this the labels of an opening view would not be readable; scrolling is better. */
const READABLE_SCALE = 0.72;
/** Opening a wide module zooms out no further than this. */
const SMALLEST_OPENED = 0.5;

/** How far to move a span so that it lies within 0…room. */
function inside(start: number, length: number, room: number): number {
  if (start >= 0 && start + length <= room) return 0;
  if (start < 0 || length > room - 2 * MARGIN) return MARGIN - start;
  return room - MARGIN - start - length;
}

export interface Picture {
  scene: Scene;
  layout: Layout;
}

export class GraphController {
  readonly tree: ReadonlySignal<ModuleTree>;
  readonly expanded: Signal<ReadonlySet<number>>;
  readonly picture: ReadonlySignal<Picture>;
  readonly metric: Signal<Metric> = signal("size");
  /** largest value on the colour scale: the baseline's largest visible box, so colours keep still while one drags */
  readonly domain: ReadonlySignal<number>;
  /** changes when the camera moved */
  readonly moved: Signal<number> = signal(0);
  readonly camera: Camera = { x: 0, y: 0, scale: 1 };
  readonly size = { width: 0, height: 0, ratio: 1 };

  private readonly owner: ReadonlySignal<Int32Array>;
  private readonly baseSums: ReadonlySignal<ModuleSums>;
  private readonly sums: ReadonlySignal<{ of: ModuleSums }>;
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
    this.owner = computed(() => weightOwners(store.costs.value));
    this.baseSums = computed(() => {
      const sums = createSums(this.tree.value.path.length);
      store.baseline.value;
      sumModules(store.costs.value, this.tree.value, this.owner.value, store.baseScheme, store.base, sums);
      return sums;
    });
    const reused = computed(() => createSums(this.tree.value.path.length));
    this.sums = computed(() => {
      store.totals.value;
      sumModules(
        store.costs.value,
        this.tree.value,
        this.owner.value,
        store.scheme,
        store.live,
        reused.value,
      );
      return { of: reused.value };
    });
    this.selectedOps = computed(() => {
      const tree = this.tree.value;
      const counts = new Int32Array(tree.path.length);
      for (const op of store.selection.value.ops) counts[tree.opModule[op]!]!++;
      for (let m = counts.length - 1; m > 0; m--) counts[tree.parent[m]!]! += counts[m]!;
      return counts;
    });
    this.domain = computed(() => {
      if (this.metric.value === "bits") return 16;
      store.baseline.value;
      let most = 0;
      for (const item of this.picture.value.scene.items)
        if (!item.expanded) most = Math.max(most, this.amount(item, true));
      return most;
    });
  }

  /** Bytes or ms of a box, under the plan or the baseline. */
  amount(item: Item, baseline = false): number {
    const latency = this.metric.value === "latency";
    if (item.kind === "op") {
      const priced = baseline ? this.store.base : this.store.live;
      return (latency ? priced.opMs : priced.opBytes)[item.index]!;
    }
    const sums = baseline ? this.baseSums.value : this.sums.value.of;
    return (latency ? sums.ms : sums.bytes)[item.index]!;
  }

  /** Mean bits of the weights in a box, NaN where there are none. */
  meanBits(item: Item): number {
    if (item.kind === "module") {
      const { bytes, elements } = this.sums.value.of;
      return elements[item.index]! > 0 ? (8 * bytes[item.index]!) / elements[item.index]! : Number.NaN;
    }
    const { opWeights, opWeightsStart, elements } = this.store.costs.value;
    let count = 0;
    for (let i = opWeightsStart[item.index]!; i < opWeightsStart[item.index + 1]!; i++)
      count += elements[opWeights[i]!]!;
    return count > 0 ? (8 * this.store.live.opBytes[item.index]!) / count : Number.NaN;
  }

  /** Position on the colour scale, 0…1; NaN for a box without weights when bits are shown. */
  colourValue(item: Item): number {
    if (this.metric.value === "bits") return this.meanBits(item) / 16;
    const domain = this.domain.value;
    return domain > 0 ? scaled(this.metric.value, this.amount(item) / domain) : 0;
  }

  figure(item: Item): string {
    if (this.metric.value === "bits") {
      const bits = this.meanBits(item);
      return Number.isNaN(bits) ? "" : `${format.bits(bits)}${format.THIN}bits`;
    }
    const whole = (this.metric.value === "latency" ? this.sums.value.of.ms : this.sums.value.of.bytes)[0]!;
    const amount = this.amount(item);
    return amount === 0 ? "" : format.share(amount, whole);
  }

  /** One line on a box: what it is, what it holds, what it costs before and after. */
  describe(item: Item): string {
    const { program, base, live } = this.store;
    const isOp = item.kind === "op";
    const name = isOp
      ? `${program.value.ops.name[item.index]} · ${item.label}`
      : `${this.tree.value.path[item.index] || "model"} · ${format.plural(this.tree.value.opCount[item.index]!, "op")}`;
    this.store.totals.value;
    const now = isOp ? [live.opBytes, live.opMs] : [this.sums.value.of.bytes, this.sums.value.of.ms];
    const was = isOp ? [base.opBytes, base.opMs] : [this.baseSums.value.bytes, this.baseSums.value.ms];
    const i = item.index;
    const size = format.bytesChange(was[0]![i]!, now[0]![i]!);
    const [a, b] = [format.milliseconds(was[1]![i]!), format.milliseconds(now[1]![i]!)];
    const ms = a === b ? b : `${a} ${format.ARROW} ${b}`;
    return `${name} · ${size} · ${format.ABOUT}${ms}${format.THIN}ms`;
  }

  selectedState(item: Item): 0 | 1 | 2 {
    if (item.kind === "op") return this.store.selection.value.has.has(item.index) ? 2 : 0;
    const count = this.selectedOps.value[item.index]!;
    return count === 0 ? 0 : count === this.tree.value.opCount[item.index] ? 2 : 1;
  }

  opsOf(item: Item): number[] {
    return item.kind === "op" ? [item.index] : opsInside(this.tree.value, item.index);
  }

  /** The box to light up for the shared hover: the module itself, or whatever stands for the op. */
  hoveredItem(): number {
    const hover = this.store.hover.value;
    if (!hover) return -1;
    const { scene } = this.picture.value;
    if (hover.op >= 0) return scene.itemOfOp[hover.op] ?? -1;
    return scene.items.findIndex((item) => item.kind === "module" && item.index === hover.module);
  }

  // ---- expanding ---------------------------------------------------------------------------------------

  setExpanded(module: number, open: boolean): void {
    if (this.expanded.peek().has(module) === open) return;
    const before = this.boxOf(module);
    const next = new Set(this.expanded.peek());
    if (open) next.add(module);
    else for (const m of [...next]) if (isInside(this.tree.peek(), m, module)) next.delete(m);
    this.expanded.value = next;
    // The box that was clicked stays under the pointer; everything else makes room.
    const after = this.boxOf(module);
    if (before && after) {
      this.camera.x += (before.x - after.x) * this.camera.scale;
      this.camera.y += (before.y - after.y) * this.camera.scale;
      if (open) this.showFrame(after);
      this.cameraMoved();
    }
  }

  /** Bring a frame that was just opened into view, smaller if it is too wide, moved no more than needed. */
  private showFrame(frame: { x: number; y: number; width: number; height: number }): void {
    const { camera, size } = this;
    const room = size.width - 2 * MARGIN;
    const left = (): number => frame.x * camera.scale + camera.x;
    const top = (): number => frame.y * camera.scale + camera.y;
    if (frame.width * camera.scale > room) {
      const scale = Math.min(camera.scale, Math.max(SMALLEST_OPENED, room / frame.width));
      camera.y += frame.y * (camera.scale - scale);
      camera.x += frame.x * (camera.scale - scale);
      camera.scale = scale;
    }
    const right = left() + frame.width * camera.scale;
    if (left() < MARGIN) camera.x += MARGIN - left();
    else if (right > size.width - MARGIN) camera.x -= Math.min(right - size.width + MARGIN, left() - MARGIN);
    const below = top() + frame.height * camera.scale - size.height + MARGIN;
    if (below > 0 && top() > MARGIN) camera.y -= Math.min(below, top() - MARGIN);
  }

  private boxOf(module: number): { x: number; y: number; width: number; height: number } | null {
    const { scene } = this.picture.peek();
    const item = scene.items.find((i) => i.kind === "module" && i.index === module);
    return item ? this.box(item.id) : null;
  }

  box(id: number): { x: number; y: number; width: number; height: number } {
    const b = this.picture.peek().layout.boxes;
    return { x: b[id * 4]!, y: b[id * 4 + 1]!, width: b[id * 4 + 2]!, height: b[id * 4 + 3]! };
  }

  // ---- camera ------------------------------------------------------------------------------------------

  private cameraMoved(): void {
    this.moved.value++;
  }

  pan(dx: number, dy: number): void {
    this.camera.x += dx;
    this.camera.y += dy;
    this.cameraMoved();
  }

  zoom(factor: number, x = this.size.width / 2, y = this.size.height / 2): void {
    const scale = Math.min(MAX_SCALE, Math.max(MIN_SCALE, this.camera.scale * factor));
    const ratio = scale / this.camera.scale;
    this.camera.x = x - (x - this.camera.x) * ratio;
    this.camera.y = y - (y - this.camera.y) * ratio;
    this.camera.scale = scale;
    this.cameraMoved();
  }

  /** Show all of it, or all of one box. */
  fit(item?: Item): void {
    const { layout } = this.picture.peek();
    const target = item ? this.box(item.id) : { x: 0, y: 0, width: layout.width, height: layout.height };
    this.lookAt(target, Math.min(1.25, this.fitScale(target)));
  }

  private fitScale(target: { width: number; height: number }): number {
    const { width, height } = this.size;
    return Math.min(
      (width - 2 * MARGIN) / Math.max(1, target.width),
      (height - 2 * MARGIN) / Math.max(1, target.height),
    );
  }

  private lookAt(target: { x: number; y: number; width: number; height: number }, wanted: number): void {
    const scale = Math.min(MAX_SCALE, Math.max(MIN_SCALE, wanted));
    const { width, height } = this.size;
    const room = height - target.height * scale;
    this.camera.scale = scale;
    this.camera.x = (width - target.width * scale) / 2 - target.x * scale;
    this.camera.y = Math.min(Math.max(MARGIN, room / 2), Math.max(MARGIN, 40)) - target.y * scale;
    this.cameraMoved();
  }

  /** The opening view: everything if that is readable, else from the top at a readable size. */
  private open(): void {
    const { layout } = this.picture.peek();
    const target = { x: 0, y: 0, width: layout.width, height: layout.height };
    const fit = this.fitScale(target);
    const byWidth = (this.size.width - 2 * MARGIN) / Math.max(1, layout.width);
    this.lookAt(target, Math.min(1.1, fit >= READABLE_SCALE ? fit : Math.max(0.45, Math.min(0.9, byWidth))));
  }

  /** Move just enough that the box can be seen; one larger than the view is shown from its start. */
  reveal(id: number): void {
    const box = this.box(id);
    const { x, y, scale } = this.camera;
    const dx = inside(box.x * scale + x, box.width * scale, this.size.width);
    const dy = inside(box.y * scale + y, box.height * scale, this.size.height);
    if (dx !== 0 || dy !== 0) this.pan(dx, dy);
  }

  resize(width: number, height: number): void {
    if (width === 0 || height === 0) return;
    const grown = width - this.size.width;
    const ratio = window.devicePixelRatio || 1;
    Object.assign(this.size, { width, height, ratio });
    if (this.canvas) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    if (!this.placed) {
      this.placed = true;
      this.open();
    } else {
      this.camera.x += grown / 2;
      this.cameraMoved();
    }
  }

  hit(x: number, y: number): Hit | null {
    const { scene, layout } = this.picture.peek();
    return hitTest(
      scene,
      layout,
      (x - this.camera.x) / this.camera.scale,
      (y - this.camera.y) / this.camera.scale,
    );
  }

  /**
   * Paint whenever something that shows has changed. Painting happens inside the change itself and not in a later
   * frame, so that totals, rows and picture are on screen together.
   */
  attach(canvas: HTMLCanvasElement): () => void {
    this.canvas = canvas;
    const ctx = canvas.getContext("2d");
    const stopPainting = effect(() => {
      this.moved.value;
      const palette = this.palette.value;
      const { scene, layout } = this.picture.value;
      this.store.totals.value;
      this.store.selection.value;
      if (!ctx || !palette || this.size.width === 0) return;
      drawScene(
        ctx,
        this.size,
        scene,
        layout,
        this.camera,
        {
          value: (id) => this.colourValue(scene.items[id]!),
          figure: (id) => this.figure(scene.items[id]!),
          selected: (id) => this.selectedState(scene.items[id]!),
          hover: this.hoveredItem(),
        },
        palette,
      );
    });
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
}
