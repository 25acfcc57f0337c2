/** The conversation of the Export menu: what is asked, when a dialog opens, and which answers count. */

import { describe, expect, test } from "vitest";
import { type ExportKind, Exports, fileName } from "../src/exports";
import type { Wire } from "../src/protocol";
import { Requests } from "../src/requests";
import { Store } from "../src/store";
import { FakeModel } from "./fakeModel";

interface Opened {
  exports: Exports;
  requests: Requests;
  sent: Wire[];
  /** Python answers, and what waited for it has run */
  answer(raw: Wire): Promise<void>;
}

function opened(): Opened {
  const sent: Wire[] = [];
  const requests = new Requests((request) => sent.push(request));
  const answer = async (raw: Wire): Promise<void> => {
    requests.receive(raw);
    await new Promise((resolve) => setTimeout(resolve));
  };
  return { exports: new Exports(requests), requests, sent, answer };
}
const texts = [{ title: "source", text: "import coremltools" }];

describe("exports", () => {
  test.each(["python", "coremltools", "plan", "configs", "torch"] as ExportKind[])(
    "%s is asked for at once and shown when it comes",
    async (what) => {
      const { exports, sent, answer } = opened();
      exports.choose(what);
      expect(sent).toEqual([{ id: sent[0]!.id, action: "export", what }]);
      expect(exports.waiting.value).toEqual({ what });
      expect(exports.shown.value).toBeNull();
      await answer({ id: sent[0]!.id, ok: true, message: "Here.", texts });
      expect(exports.shown.value).toBe(what);
      expect(exports.waiting.value).toBeNull();
      expect(exports.answer.value?.texts).toEqual(texts);
    },
  );

  test("a package asks for a path first, follows its progress, and opens again with its report", async () => {
    const { exports, requests, sent, answer } = opened();
    exports.choose("package");
    expect(sent).toEqual([]);
    expect(exports.shown.value).toBe("package");
    void exports.ask({ what: "package", path: "small.mlpackage", replace: false });
    const id = sent[0]!.id;
    requests.told({ id: "another", stage: "Compressing", done: 0.9 });
    expect(exports.progress.value).toBeNull();
    requests.told({ id, stage: "Compressing", done: 0.25 });
    expect(exports.progress.value).toEqual({ stage: "Compressing", done: 0.25 });
    exports.close();
    const report = {
      verdict: "As predicted.",
      ok: true,
      weights: 2,
      matching: 2,
      rows: [["weight.bin", 8, 8]],
    };
    await answer({ id, ok: true, message: "Saved.", saved: ["small.mlpackage"], report });
    expect(exports.shown.value).toBe("package");
    expect(exports.answer.value?.report).toEqual({
      ...report,
      rows: [{ what: "weight.bin", predicted: 8, actual: 8 }],
      findings: [],
    });
  });

  test("a text that could not be saved stays to be copied, with the name that is free", async () => {
    const { exports, sent, answer } = opened();
    exports.choose("python");
    await answer({ id: sent[0]!.id, ok: true, message: "", texts });
    void exports.ask({ what: "python", path: "small.py", replace: false });
    await answer({ id: sent[1]!.id, ok: false, message: "It exists.", taken: "small-2.py" });
    expect(exports.answer.value).toMatchObject({ ok: false, free: "small-2.py", texts });
  });

  test("answers to what is no longer waited for are ignored", async () => {
    const { exports, sent, answer } = opened();
    exports.choose("python");
    exports.cancel();
    await answer({ id: sent[0]!.id, ok: true, message: "", texts });
    expect(exports.shown.value).toBeNull();
    expect(exports.answer.value).toBeNull();
  });

  test("edits that were not sent yet go before the request", () => {
    const model = new FakeModel();
    const store = new Store(model);
    const gesture = store.edits.begin();
    store.edits.assign({ weights: [0], schemes: [3], skipped: 0 }, "one", gesture);
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
