/** What the benchmark's page can do: open and close Explorers of synthetic programs, without Jupyter. */

import session from "../src/session";
import { FakeModel } from "../test/fakeModel";
import { view } from "../test/synthetic";
import { treeWire } from "../test/tree";

let closing: (() => void) | null = null;
let model: FakeModel | null = null;

/** Make the state that Python would send; not part of any figure. */
function prepare(ops: number): void {
  model = new FakeModel({ ops, hidden: ops > 20_000 ? 64 : 384, errors: true });
}

/** The same ops in one module without any inside: the widest there is to open. */
function flatten(): void {
  const program = { ...(model!.get("program") as Record<string, unknown>) };
  const ops = program.ops as { name: string[]; op_type: string[] };
  const inside = ops.name.map((_, op) => (op < 2 ? 0 : 1));
  const [built, tree] = treeWire([-1, 0], inside, ops.op_type);
  const modules = { path: ["", "body"], class_name: ["Model", "Body"], parent: view(Int32Array.of(-1, 0)) };
  model!.traits.set("program", {
    ...program,
    ops: { ...ops, module: view(Int32Array.from(inside)) },
    modules: { ...modules, ...built },
    tree,
    weights: { name: [], shape: [], elements: [], module: [] },
  });
}

function open(): void {
  const abort = new AbortController();
  const el = document.body.appendChild(document.createElement("div"));
  const dispose = session
    .initialize({ model: model!, signal: abort.signal })
    .mount("explorer", el, { height: 0 });
  closing = () => {
    dispose();
    abort.abort();
    el.remove();
  };
}

function close(): void {
  closing?.();
  closing = null;
}

const long: PerformanceEntry[] = [];
const observer = new PerformanceObserver((list) => long.push(...list.getEntries()));
observer.observe({ type: "longtask" });

/** Lengths of the tasks over 50 ms since this was last asked. */
function longTasks(): number[] {
  long.push(...observer.takeRecords());
  return long.splice(0).map(({ duration }) => duration);
}

/** Resolves once what was asked for is on screen: behind the next frame. */
const painted = (): Promise<void> =>
  new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));

Object.assign(globalThis, { bench: { prepare, flatten, open, close, painted, longTasks } });
