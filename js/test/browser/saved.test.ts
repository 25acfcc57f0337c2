/** A saved notebook: what it shows of a session that Python does not have any more. */

import { expect, test } from "vitest";
import session from "../../src/session";
import trampoline from "../../src/view";
import { FakeModel } from "../fakeModel";
import { all, get, rows, settled } from "./page";

type Render = Parameters<typeof trampoline.render>[0];

async function open(manager: unknown): Promise<{ el: HTMLElement; close(): void }> {
  const { mount } = session.initialize({ model: new FakeModel() });
  const traits: Record<string, unknown> = { session: "anywidget:abc", view: "explorer", height: 0 };
  const el = document.createElement("div");
  document.body.append(el);
  const dispose = await trampoline.render({
    model: { get: (key: string) => traits[key], widget_manager: manager },
    el,
    host: { getWidget: () => Promise.resolve({ exports: { mount } }) },
  } as unknown as Render);
  await settled();
  return {
    el,
    close() {
      dispose();
      el.remove();
    },
  };
}

test.each([
  ["of a kernel that is gone", { get_model: () => Promise.resolve({ comm_live: false }) }, true],
  ["of a kernel that lives", { get_model: () => Promise.resolve({ comm_live: true }) }, false],
  ["in a host that cannot tell", { get_model: () => Promise.reject(new Error("no")) }, false],
  ["in a host without a manager", undefined, false],
])("a session %s is drawn whole, and says so if edits are lost", async (_, manager, lost) => {
  const { el, close } = await open(manager);
  expect(rows(el).length).toBeGreaterThan(5);
  const bars = all(el, ".tlr-offline").map((bar) => bar.textContent);
  expect(bars).toEqual(
    lost
      ? [
          "This is how the notebook was saved. Run the cell that made it again to go on. Edits made here now are lost.",
        ]
      : [],
  );
  close();
});

test("the still picture is hidden while a view of its session is drawn, and seen without", async () => {
  const model = new FakeModel();
  const picture = document.body.appendChild(document.createElement("p"));
  picture.className = "tlr-still-1";
  const { mount } = session.initialize({ model });
  model.push("still_class", "tlr-still-1");
  const seen = (): boolean => getComputedStyle(picture).display !== "none";
  expect(seen()).toBe(true);
  const [one, other] = [document.createElement("div"), document.createElement("div")];
  document.body.append(one, other);
  const close = [mount("summary", one), mount("table", other)];
  await settled();
  expect(get(one, ".tlr")).toBeTruthy();
  expect(seen()).toBe(false);
  close[0]!();
  expect(seen()).toBe(false);
  close[1]!();
  expect(seen()).toBe(true);
  for (const el of [picture, one, other]) el.remove();
});
