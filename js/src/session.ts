/** anywidget entry of the Session: builds the one store and hands out `mount`, so that all views share it. */

import type { AnyWidget } from "@anywidget/types";
import { h, render } from "preact";
import type { HostModel } from "./protocol";
import { Store } from "./store";
import { adoptStyles } from "./theme";
import { Root, type ViewName } from "./views/root";

export interface MountOptions {
  /** pixels; 0 is the view's natural height */
  height?: number;
}

export interface SessionExports {
  mount(view: ViewName, el: HTMLElement, options?: MountOptions): () => void;
}

function initialize({ model, signal }: { model: HostModel; signal?: AbortSignal }): SessionExports {
  const store = new Store(model);
  signal?.addEventListener("abort", () => store.dispose(), { once: true });
  return {
    mount(view, el, options = {}) {
      adoptStyles(el);
      render(h(Root, { store, view, height: options.height ?? 0 }), el);
      return () => render(null, el);
    },
  };
}

export default { initialize } satisfies AnyWidget;
