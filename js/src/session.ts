/** anywidget entry of the Session: builds the one store and hands out `mount`, so that all views share it. */

import type { AnyWidget } from "@anywidget/types";
import { h, render } from "preact";
import type { HostModel } from "./protocol";
import { rehearse } from "./rehearsal";
import { AGAIN, messageOf, say } from "./sentence";
import { Still } from "./still";
import { Store } from "./store";
import { adoptStyles } from "./theme";
import { Root, type ViewName } from "./views/root";

export interface MountOptions {
  /** pixels; 0 is the view's natural height */
  height?: number;
  /** false where the notebook was saved with the session, and Python does not have it */
  live?: boolean;
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
  const still = new Still(model);
  let stopRehearsal: (() => void) | undefined;
  const end = (): void => {
    stopRehearsal?.();
    store.dispose();
    still.dispose();
  };
  signal?.addEventListener("abort", end, { once: true });
  return {
    mount(view, el, options = {}) {
      adoptStyles(el);
      if (options.live === false) store.presence.isSaved();
      render(h(Root, { store, view, height: options.height ?? 0 }), el);
      stopRehearsal ??= rehearse(store);
      const show = still.hide();
      return () => {
        render(null, el);
        show();
      };
    },
  };
}

export default { initialize } satisfies AnyWidget;
