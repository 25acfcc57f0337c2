/** `npx vite dev`, then ?ops=10000&errors&dark&view=table: the views without Jupyter, against a fake kernel. */

import session from "../src/session";
import type { ViewName } from "../src/views/root";
import { FakeModel } from "../test/fakeModel";

const query = new URLSearchParams(location.search);
if (query.has("dark")) document.body.dataset.jpThemeLight = "false";

/** What a real session sent, as JSON with {"$b": base64} for bytes: dev/wire.json, if somebody put it there. */
function revive(_key: string, value: unknown): unknown {
  const coded = (value as { $b?: string } | null)?.$b;
  if (typeof coded !== "string") return value;
  return new DataView(Uint8Array.from(atob(coded), (c) => c.charCodeAt(0)).buffer);
}

const model = new FakeModel({
  ops: Number(query.get("ops") ?? 138),
  prefix: query.get("prefix") ?? "",
  errors: query.has("errors"),
});
if (query.has("wire")) {
  const text = await (await fetch("./wire.json")).text();
  for (const [key, value] of Object.entries(JSON.parse(text, revive))) model.traits.set(key, value);
}
model.blocked = query.has("blocked");
const { mount } = session.initialize({ model });
mount((query.get("view") ?? "explorer") as ViewName, document.getElementById("cell")!, {
  height: Number(query.get("height") ?? 0),
});
Object.assign(globalThis, { model });
