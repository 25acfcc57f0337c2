/** anywidget entry of every view: a trampoline into the session's module, where all the code is. */

import type { AnyWidget, RenderProps } from "@anywidget/types";
import type { SessionExports } from "./session";
import type { ViewName } from "./views/root";

async function render({ model, el, host }: RenderProps): Promise<() => void> {
  const height = Number(model.get("height") ?? 0);
  try {
    const session = await host.getWidget<SessionExports>(String(model.get("session")));
    return session.exports.mount(model.get("view") as ViewName, el, { height });
  } catch (error) {
    console.error(error);
    // Nothing is imported for this: the bundle must stay one file.
    el.textContent = "The session of this view is not there any more. Run the cell that made it again.";
    return () => undefined;
  }
}

export default { render } satisfies AnyWidget;
