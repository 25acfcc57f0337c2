/** anywidget entry of every view: a trampoline into the session's module, where all the code is. */

import type { AnyWidget, RenderProps } from "@anywidget/types";
import type { SessionExports } from "./session";
import type { ViewName } from "./views/root";

async function render({ model, el, host }: RenderProps): Promise<() => void> {
  const session = await host.getWidget<SessionExports>(String(model.get("session")));
  const height = Number(model.get("height") ?? 0);
  return session.exports.mount(model.get("view") as ViewName, el, { height });
}

export default { render } satisfies AnyWidget;
