/** The conversation of the Export menu: what is asked, when a dialog opens, and which answers count. */

import { describe, expect, test } from "vitest";
import { type ExportKind, Exports, fileName } from "../src/exports";
import type { Wire } from "../src/protocol";
import { Store } from "../src/store";
import { FakeModel } from "./fakeModel";

function opened(): { exports: Exports; sent: Wire[] } {
  const sent: Wire[] = [];
  return { exports: new Exports((request) => sent.push(request)), sent };
}
const texts = [{ title: "source", text: "import coremltools" }];

describe("exports", () => {
  test.each(["python", "coremltools", "plan", "configs", "torch"] as ExportKind[])(
    "%s is asked for at once and shown when it comes",
    (what) => {
      const { exports, sent } = opened();
      exports.choose(what);
      expect(sent).toEqual([{ id: exports.waiting.value?.id, action: "export", what }]);
      expect(exports.shown.value).toBeNull();
      exports.receive({ id: sent[0]!.id, ok: true, message: "Here.", texts });
      expect(exports.shown.value).toBe(what);
      expect(exports.waiting.value).toBeNull();
      expect(exports.answer.value?.texts).toEqual(texts);
    },
  );

  test("a package asks for a path first, follows its progress, and opens again with its report", () => {
    const { exports, sent } = opened();
    exports.choose("package");
    expect(sent).toEqual([]);
    expect(exports.shown.value).toBe("package");
    exports.ask({ what: "package", path: "small.mlpackage", replace: false });
    const id = sent[0]!.id;
    exports.told({ id: "another", stage: "Compressing", done: 0.9 });
    expect(exports.progress.value).toBeNull();
    exports.told({ id, stage: "Compressing", done: 0.25 });
    expect(exports.progress.value).toEqual({ stage: "Compressing", done: 0.25 });
    exports.close();
    const report = {
      verdict: "As predicted.",
      ok: true,
      weights: 2,
      matching: 2,
      rows: [["weight.bin", 8, 8]],
    };
    exports.receive({ id, ok: true, message: "Saved.", saved: ["small.mlpackage"], report });
    expect(exports.shown.value).toBe("package");
    expect(exports.answer.value?.report).toEqual({
      ...report,
      rows: [{ what: "weight.bin", predicted: 8, actual: 8 }],
      findings: [],
    });
  });

  test("a text that could not be saved stays to be copied, with the name that is free", () => {
    const { exports, sent } = opened();
    exports.choose("python");
    exports.receive({ id: sent[0]!.id, ok: true, message: "", texts });
    exports.ask({ what: "python", path: "small.py", replace: false });
    exports.receive({ id: sent[1]!.id, ok: false, message: "It exists.", taken: "small-2.py" });
    expect(exports.answer.value).toMatchObject({ ok: false, free: "small-2.py", texts });
  });

  test("answers to what is no longer waited for are ignored", () => {
    const { exports, sent } = opened();
    exports.choose("python");
    exports.cancel();
    exports.receive({ id: sent[0]!.id, ok: true, message: "", texts });
    expect(exports.shown.value).toBeNull();
    expect(exports.answer.value).toBeNull();
  });

  test("edits that were not sent yet go before the request", () => {
    const model = new FakeModel();
    const store = new Store(model);
    const gesture = store.beginGesture();
    store.assign({ weights: [0], schemes: [3], skipped: 0 }, "one", gesture);
    const order: string[] = [];
    const set = model.set.bind(model);
    model.set = (key, value) => {
      order.push(key);
      set(key, value);
    };
    store.exports.choose("python");
    expect(order).toEqual(["edits", "request"]);
    store.dispose();
  });

  test("a file is named after the model and its bits, whatever the model's name", () => {
    expect(fileName("all-MiniLM-L6-v2", 4.1834, ".mlpackage")).toBe("all-MiniLM-L6-v2-4.2bit.mlpackage");
    expect(fileName("../../etc/<b>x</b> y", 16, ".py")).toBe("etc-b-x-b-y-16bit.py");
    expect(fileName("🙂", 8, ".yaml")).toBe("model-8bit.yaml");
    expect([...fileName("ж".repeat(300), 8, ".yaml")].length).toBe(70);
  });
});
