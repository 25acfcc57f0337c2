/** Text that would do harm if it were taken for anything but text. */

import type { FakeModel } from "../fakeModel";

/** HTML and script, right-to-left with an override that is never closed, and emoji of several code points. */
export const EVIL = `<img src=x onerror="window.hacked=1"><script>window.hacked=1</script><b>שלום</b>\u202e👩🏽‍🚀🙂`;
export const LONG = "x".repeat(10_000);

/** Answer what a view asked last. */
export function answer(model: FakeModel, action: string, fields: object): void {
  const { id } = model.get("request") as { id: string };
  model.push("response", { id, action, ok: true, message: "", ...fields });
}
