/** The still picture of a session below its cell: for notebooks without a kernel, and hidden while the session lives. */

import type { HostModel } from "./protocol";

/** Hide the picture, and the output of the notebook that holds it; call what comes back to show it again. */
export function hideStill(model: HostModel): () => void {
  const sheet = new CSSStyleSheet();
  const update = (): void => {
    const name = String(model.get("still_class") ?? "");
    const isName = /^[\w-]+$/.test(name);
    sheet.replaceSync(
      isName ? `.${name}, .jp-OutputArea-child:has(.${name}) { display: none !important; }` : "",
    );
  };
  model.on("change:still_class", update);
  update();
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  return () => {
    model.off("change:still_class", update);
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
  };
}
