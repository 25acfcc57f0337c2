/** anywidget entry of the Session: builds the one store and hands out `mount`, so that all views share it. */

import type { AnyWidget } from "@anywidget/types";
import { h, render } from "preact";
import type { HostModel } from "./protocol";
import { AGAIN, messageOf, say } from "./sentence";
import { hideStill } from "./still";
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
  let store: Store;
  try {
    store = new Store(model);
  } catch (error) {
    console.error(error);
    return { mount: (_, el) => say(el, `This session could not be read: ${messageOf(error)}. ${AGAIN}`) };
  }
  const showStill = hideStill(model);
  const end = (): void => {
    store.dispose();
    showStill();
  };
  signal?.addEventListener("abort", end, { once: true });
  return {
    mount(view, el, options = {}) {
      adoptStyles(el);
      render(h(Root, { store, view, height: options.height ?? 0 }), el);
      return () => render(null, el);
    },
  };
}

export default { initialize } satisfies AnyWidget;
