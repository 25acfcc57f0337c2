/** Where one looks at the picture from: pan, zoom, and moves that bring a box into view. */

import { type Signal, signal } from "@preact/signals";

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Camera {
  x: number;
  y: number;
  scale: number;
}

/** How much nearer a press of + goes. */
export const ZOOM_STEP = 1.25;
const MARGIN = 14;
const SCALE = {
  least: 0.05,
  most: 3,
  /** showing all of something comes no nearer, and the opening view not even that */
  fit: 1.25,
  opening: 1.1,
  /** below this the labels of an opening view would not be readable: scrolling is better */
  readable: 0.72,
  /** opening a wide module zooms out no further */
  opened: 0.5,
} as const;
/** Less than this of the picture outside is not worth a map of it. */
const MAP_SLACK = 8;

/** How far to move a span so that it lies within 0…room. */
function shift(start: number, length: number, room: number): number {
  if (start >= 0 && start + length <= room) return 0;
  if (start < 0 || length > room - 2 * MARGIN) return MARGIN - start;
  return room - MARGIN - start - length;
}

export class Viewport {
  /** changes when the camera moved or the size changed */
  readonly moved: Signal<number> = signal(0);
  readonly camera: Camera = { x: 0, y: 0, scale: 1 };
  readonly size = { width: 0, height: 0, ratio: 1 };

  changed(): void {
    this.moved.value++;
  }

  pan(dx: number, dy: number): void {
    this.camera.x += dx;
    this.camera.y += dy;
    this.changed();
  }

  zoom(factor: number, x = this.size.width / 2, y = this.size.height / 2): void {
    const scale = Math.min(SCALE.most, Math.max(SCALE.least, this.camera.scale * factor));
    const ratio = scale / this.camera.scale;
    this.camera.x = x - (x - this.camera.x) * ratio;
    this.camera.y = y - (y - this.camera.y) * ratio;
    this.camera.scale = scale;
    this.changed();
  }

  /** A point of the screen in the picture. */
  at(x: number, y: number): [number, number] {
    return [(x - this.camera.x) / this.camera.scale, (y - this.camera.y) / this.camera.scale];
  }

  /** The part of the picture that is on screen. */
  shown(): Box {
    const [x, y] = this.at(0, 0);
    return { x, y, width: this.size.width / this.camera.scale, height: this.size.height / this.camera.scale };
  }

  holds(box: Box): boolean {
    const { x, y, width, height } = this.shown();
    return (
      box.x >= x - MAP_SLACK &&
      box.y >= y - MAP_SLACK &&
      box.x + box.width <= x + width + MAP_SLACK &&
      box.y + box.height <= y + height + MAP_SLACK
    );
  }

  fit(box: Box): void {
    this.lookAt(box, Math.min(SCALE.fit, this.fitScale(box)));
  }

  /** The opening view: everything if that is readable, else from the top at a readable size. */
  open(box: Box): void {
    const fit = this.fitScale(box);
    const byWidth = (this.size.width - 2 * MARGIN) / Math.max(1, box.width);
    this.lookAt(
      box,
      Math.min(SCALE.opening, fit >= SCALE.readable ? fit : Math.max(0.45, Math.min(0.9, byWidth))),
    );
  }

  private fitScale(box: Box): number {
    const { width, height } = this.size;
    return Math.min(
      (width - 2 * MARGIN) / Math.max(1, box.width),
      (height - 2 * MARGIN) / Math.max(1, box.height),
    );
  }

  private lookAt(box: Box, wanted: number): void {
    const scale = Math.min(SCALE.most, Math.max(SCALE.least, wanted));
    const { width, height } = this.size;
    const room = height - box.height * scale;
    this.camera.scale = scale;
    this.camera.x = (width - box.width * scale) / 2 - box.x * scale;
    this.camera.y = Math.min(Math.max(MARGIN, room / 2), Math.max(MARGIN, 40)) - box.y * scale;
    this.changed();
  }

  /** Put a point of the picture in the middle of the screen. */
  centre(x: number, y: number): void {
    this.camera.x = this.size.width / 2 - x * this.camera.scale;
    this.camera.y = this.size.height / 2 - y * this.camera.scale;
    this.changed();
  }

  /** Move just enough that the box can be seen; one larger than the view is shown from its start. */
  reveal(box: Box): void {
    const { x, y, scale } = this.camera;
    const dx = shift(box.x * scale + x, box.width * scale, this.size.width);
    const dy = shift(box.y * scale + y, box.height * scale, this.size.height);
    if (dx !== 0 || dy !== 0) this.pan(dx, dy);
  }

  /** A box is elsewhere now: move the camera so that it stays where it was on screen. */
  keep(before: Box, after: Box): void {
    this.camera.x += (before.x - after.x) * this.camera.scale;
    this.camera.y += (before.y - after.y) * this.camera.scale;
  }

  /** Bring a frame that was just opened into view, smaller if it is too wide, moved no more than needed. */
  showFrame(frame: Box): void {
    const { camera, size } = this;
    const room = size.width - 2 * MARGIN;
    const left = (): number => frame.x * camera.scale + camera.x;
    const top = (): number => frame.y * camera.scale + camera.y;
    if (frame.width * camera.scale > room) {
      const scale = Math.min(camera.scale, Math.max(SCALE.opened, room / frame.width));
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
}
