/** `npx vite dev`, then ?ops=10000&dark&view=table: the views without Jupyter, against a fake kernel. */

import session from "../src/session";
import type { ViewName } from "../src/views/root";
import { FakeModel } from "../test/fakeModel";

const query = new URLSearchParams(location.search);
if (query.has("dark")) document.body.dataset.jpThemeLight = "false";
const model = new FakeModel({ ops: Number(query.get("ops") ?? 138), prefix: query.get("prefix") ?? "" });
model.blocked = query.has("blocked");
const { mount } = session.initialize({ model });
mount((query.get("view") ?? "explorer") as ViewName, document.getElementById("cell")!, {
  height: Number(query.get("height") ?? 0),
});
Object.assign(globalThis, { model });
