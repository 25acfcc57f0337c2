/**
 * Colours, sizes and fonts: one place. Background and text are the host's, where one says whether it is light or dark;
 * others may have Jupyter's variables too (VS Code has those of a light theme in a dark one). The canvas cannot read
 * CSS, so `readPalette` resolves the same tokens for it.
 */

import css from "./style.css?inline";

export const ROW_HEIGHT = 26;
export const DEFAULT_HEIGHT = 720;
export const MIN_HEIGHT = 420;
export const FONT =
  "var(--jp-ui-font-family, system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif)";

type Rgb = readonly [number, number, number];

/** Single-hue ramps of even lightness steps: order survives every colour vision and greyscale. */
const RAMP_LIGHT: readonly Rgb[] = [
  [237, 241, 248],
  [207, 220, 243],
  [150, 181, 234],
  [84, 131, 216],
  [31, 84, 181],
];
const RAMP_DARK: readonly Rgb[] = [
  [35, 42, 56],
  [40, 58, 94],
  [50, 84, 148],
  [78, 124, 208],
  [134, 176, 255],
];

/** From less (blue) through nothing to more (orange): two hues that every colour vision tells apart. */
const CHANGE_LIGHT: readonly Rgb[] = [
  [31, 84, 181],
  [137, 173, 232],
  [240, 241, 244],
  [240, 178, 110],
  [179, 88, 6],
];
const CHANGE_DARK: readonly Rgb[] = [
  [134, 176, 255],
  [58, 93, 160],
  [37, 41, 50],
  [140, 84, 28],
  [255, 174, 92],
];

/** Shared by both themes; values that differ are given per theme below. */
const TOKENS = `
.tlr {
  --tlr-font: ${FONT};
  --tlr-mono: var(--jp-code-font-family, ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace);
  --tlr-row: ${ROW_HEIGHT}px;
  --tlr-own-bg: #fff;
  --tlr-own-text: #1b1f27;
  --tlr-bg: var(--tlr-own-bg);
  --tlr-text: var(--tlr-own-text);
  --tlr-border: #e1e4ea;
  --tlr-hairline: #eceef2;
  --tlr-control: #d5d9e0;
  --tlr-surface: #f5f6f9;
  --tlr-muted: #5f6774;
  --tlr-faint: #868d99;
  --tlr-accent: #2b66d9;
  --tlr-accent-text: #fff;
  --tlr-selected: #e6effd;
  --tlr-hover: #f2f5fa;
  --tlr-good: #1a7f4b;
  --tlr-bad: #b3371f;
  --tlr-bar: #5b8ae0;
  --tlr-bar-was: #d5dfef;
  --tlr-bar-soft: #9aa9c0;
  --tlr-track: #d9dee6;
  --tlr-shadow: 0 8px 32px rgba(20, 30, 50, 0.18);
  color-scheme: light;
}
.tlr[data-dark] {
  --tlr-own-bg: #16191f;
  --tlr-own-text: #e8eaee;
  --tlr-border: rgba(255, 255, 255, 0.13);
  --tlr-hairline: rgba(255, 255, 255, 0.075);
  --tlr-control: rgba(255, 255, 255, 0.2);
  --tlr-surface: rgba(255, 255, 255, 0.045);
  --tlr-muted: #a3abb8;
  --tlr-faint: #848c9a;
  --tlr-accent: #6aa0ff;
  --tlr-accent-text: #0c1425;
  --tlr-selected: rgba(80, 135, 240, 0.24);
  --tlr-hover: rgba(255, 255, 255, 0.05);
  --tlr-good: #58c88d;
  --tlr-bad: #ff8f75;
  --tlr-bar: #5b8de6;
  --tlr-bar-was: rgba(140, 170, 230, 0.28);
  --tlr-bar-soft: rgba(160, 178, 210, 0.62);
  --tlr-track: rgba(255, 255, 255, 0.16);
  --tlr-shadow: 0 8px 32px rgba(0, 0, 0, 0.55);
  color-scheme: dark;
}
[data-vscode-theme-kind] .tlr {
  --tlr-bg: var(--vscode-editor-background, var(--tlr-own-bg));
  --tlr-text: var(--vscode-editor-foreground, var(--tlr-own-text));
}
[data-jp-theme-light] .tlr {
  --tlr-bg: var(--jp-layout-color1, var(--tlr-own-bg));
  --tlr-text: var(--jp-ui-font-color1, var(--tlr-own-text));
}
`;

export const STYLES = TOKENS + css;

/** Resolved colours for the canvas. */
export interface Palette {
  dark: boolean;
  background: string;
  surface: string;
  text: string;
  muted: string;
  border: string;
  accent: string;
  edge: string;
  font: string;
}

const mix = (a: number, b: number, t: number): number => Math.round(a + (b - a) * t);

function rampOf(dark: boolean, diverging: boolean): readonly Rgb[] {
  if (diverging) return dark ? CHANGE_DARK : CHANGE_LIGHT;
  return dark ? RAMP_DARK : RAMP_LIGHT;
}

function rampRgb(dark: boolean, value: number, diverging: boolean): Rgb {
  const ramp = rampOf(dark, diverging);
  const at = Math.min(1, Math.max(0, value)) * (ramp.length - 1);
  const i = Math.min(ramp.length - 2, Math.floor(at));
  const [a, b] = [ramp[i]!, ramp[i + 1]!];
  return [mix(a[0], b[0], at - i), mix(a[1], b[1], at - i), mix(a[2], b[2], at - i)];
}

/** Fills by their red, green and blue: a timeline asks for a thousand at a time, and there are few. */
const fills = new Map<number, string>();

/** Fill for a value in 0…1; of a change, 0.5 is none. */
export function rampColor(dark: boolean, value: number, diverging = false): string {
  const [r, g, b] = rampRgb(dark, value, diverging);
  const key = (r << 16) | (g << 8) | b;
  const fill = fills.get(key) ?? `rgb(${r},${g},${b})`;
  fills.set(key, fill);
  return fill;
}

/** One colour for each of `BOUNDS`, apart in every colour vision and in lightness; a word stands beside each. */
const BOUND_LIGHT = ["#b6bcc8", "#d9822b", "#3f7ae0", "#2a9d8f"] as const;
const BOUND_DARK = ["#5c6577", "#e39a4e", "#5b8de6", "#3fb5a5"] as const;
export const boundColor = (dark: boolean, bound: number): string =>
  (dark ? BOUND_DARK : BOUND_LIGHT)[bound] ?? BOUND_LIGHT[0];

/** Ink that reads on that fill: of black and white the one with the higher contrast, which is always over 4.5. */
export function rampInk(dark: boolean, value: number, diverging = false): string {
  const [r, g, b] = rampRgb(dark, value, diverging).map((c) => {
    const s = c / 255;
    return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000000" : "#ffffff";
}

export const rampGradient = (dark: boolean, diverging = false): string =>
  `linear-gradient(to right, ${rampOf(dark, diverging)
    .map((c) => `rgb(${c.join(",")})`)
    .join(", ")})`;

export function readPalette(root: HTMLElement): Palette {
  const style = getComputedStyle(root);
  const token = (name: string): string => style.getPropertyValue(name).trim();
  return {
    dark: root.hasAttribute("data-dark"),
    background: token("--tlr-bg"),
    surface: token("--tlr-surface"),
    text: token("--tlr-text"),
    muted: token("--tlr-muted"),
    border: token("--tlr-control"),
    accent: token("--tlr-accent"),
    edge: token("--tlr-faint"),
    font: style.fontFamily,
  };
}

/** Add the style sheet once to the document or shadow root that holds `el`. */
export function adoptStyles(el: Node): void {
  const root = el.getRootNode();
  const target = root instanceof ShadowRoot ? root : document;
  if (adopted.has(target)) return;
  adopted.add(target);
  try {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLES);
    target.adoptedStyleSheets = [...target.adoptedStyleSheets, sheet];
  } catch {
    const style = document.createElement("style");
    style.textContent = STYLES;
    (target instanceof ShadowRoot ? target : document.head).append(style);
  }
}
const adopted = new WeakSet<Node>();
