/** Text on a canvas that has only so much room. */

const widths = new Map<string, number>();
const WIDTHS_LIMIT = 20_000;

/** How wide a text is in the font that is set, in pixels. */
export function measured(ctx: CanvasRenderingContext2D, text: string): number {
  const key = `${ctx.font}|${text}`;
  let width = widths.get(key);
  if (width === undefined) {
    if (widths.size >= WIDTHS_LIMIT) widths.clear();
    width = ctx.measureText(text).width;
    widths.set(key, width);
  }
  return width;
}

/** No text of this length fits anywhere. */
const LONGEST = 200;

/** Shortened from the front, for the end of a module's path is what tells it apart; "" where not even two letters fit. */
export function fitText(ctx: CanvasRenderingContext2D, text: string, room: number): string {
  const whole = text.length > LONGEST ? `…${text.slice(-LONGEST)}` : text;
  if (measured(ctx, whole) <= room) return whole;
  let [low, high] = [0, whole.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (measured(ctx, `…${whole.slice(middle)}`) <= room) high = middle;
    else low = middle + 1;
  }
  const end = whole.slice(low).replace(/^\./, "");
  return end.length < 2 ? "" : `…${end}`;
}
