/** The still picture of a session below its cell: for notebooks without a kernel, and hidden while a view is drawn. */

import type { HostModel } from "./protocol";

export class Still {
  private readonly sheet = new CSSStyleSheet();
  private views = 0;

  constructor(private readonly model: HostModel) {
    model.on("change:still_class", this.update);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, this.sheet];
  }

  /** Hide it, and the output of the notebook that holds it; call what comes back when the view is gone. */
  hide(): () => void {
    this.views++;
    this.update();
    return () => {
      this.views--;
      this.update();
    };
  }

  dispose(): void {
    this.model.off("change:still_class", this.update);
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== this.sheet);
  }

  private readonly update = (): void => {
    const name = String(this.model.get("still_class") ?? "");
    const isHidden = this.views > 0 && /^[\w-]+$/.test(name);
    this.sheet.replaceSync(
      isHidden ? `.${name}, .jp-OutputArea-child:has(.${name}) { display: none !important; }` : "",
    );
  };
}
