/** Whether the page around a view is light or dark, in every host, and when that changes. */

let pixel: CanvasRenderingContext2D | null = null;

/** Luminance of a CSS colour, 0 to 255, or null where one sees through it, or there is none outside of the page. */
function luminance(color: string): number | null {
  if (color === "") return null;
  // Browsers compute colours to many notations; a canvas reads them all.
  if (!pixel) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    pixel = canvas.getContext("2d", { willReadFrequently: true })!;
  }
  pixel.clearRect(0, 0, 1, 1);
  pixel.fillStyle = color;
  pixel.fillRect(0, 0, 1, 1);
  const [r, g, b, alpha] = pixel.getImageData(0, 0, 1, 1).data;
  return alpha! < 128 ? null : 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
}

/** The element around this one; marimo draws in shadow roots. */
export function around(el: Element): Element | null {
  if (el.parentElement) return el.parentElement;
  const root = el.getRootNode();
  return root instanceof ShadowRoot ? root.host : null;
}

/** Jupyter and VS Code say so; otherwise the background does; otherwise the system's preference. */
export function isDark(el: Element): boolean {
  const jupyter = el.closest("[data-jp-theme-light]")?.getAttribute("data-jp-theme-light");
  if (jupyter === "true" || jupyter === "false") return jupyter === "false";
  const code = document.body.dataset.vscodeThemeKind;
  if (code) return !code.endsWith("light");
  for (let node = around(el); node; node = around(node)) {
    const found = luminance(getComputedStyle(node).backgroundColor);
    if (found !== null) return found < 128;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Call back now, whenever the host's theme may have changed, and when `look` says to look again. */
export function watchTheme(el: HTMLElement, changed: () => void): { look(): void; stop(): void } {
  const update = (): void => {
    el.toggleAttribute("data-dark", isDark(el));
    changed();
  };
  const observer = new MutationObserver(update);
  for (const node of [document.documentElement, document.body])
    observer.observe(node, {
      attributes: true,
      attributeFilter: [
        "data-jp-theme-light",
        "data-jp-theme-name",
        "data-vscode-theme-kind",
        "class",
        "style",
      ],
    });
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", update);
  update();
  const stop = (): void => {
    observer.disconnect();
    media.removeEventListener("change", update);
  };
  return { look: update, stop };
}
