/** anywidget entry of every view: a trampoline into the session's module, where all the code is. */

import type { AnyWidget, RenderProps } from "@anywidget/types";
import type { SessionExports } from "./session";
import type { ViewName } from "./views/root";

/** What is used of the widget manager of JupyterLab and Notebook. */
interface Manager {
  get_model(id: string): Promise<{ comm_live?: boolean }>;
}

/** Whether Python has the session, as far as the host says: a notebook may be saved with widgets of a kernel of old. */
async function isLive(manager: unknown, ref: string): Promise<boolean> {
  try {
    const id = ref.replace(/^anywidget:/, "");
    return (await (manager as Partial<Manager> | undefined)?.get_model?.(id))?.comm_live !== false;
  } catch {
    return true;
  }
}

async function render({ model, el, host }: RenderProps): Promise<() => void> {
  const height = Number(model.get("height") ?? 0);
  const ref = String(model.get("session"));
  try {
    const session = await host.getWidget<SessionExports>(ref);
    const live = await isLive(model.widget_manager, ref);
    return session.exports.mount(model.get("view") as ViewName, el, { height, live });
  } catch (error) {
    console.error(error);
    // Nothing is imported for this: the bundle must stay one file.
    el.textContent = "The session of this view is not there any more. Run the cell that made it again.";
    return () => undefined;
  }
}

export default { render } satisfies AnyWidget;
