import { useComputed } from "@preact/signals";
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { ColumnKey } from "../columns";
import { BOUNDS } from "../estimate";
import * as format from "../format";
import { measuredUnit } from "../measured";
import { common } from "../schemes";
import { lastCharacters, type Parts, partsOfPath } from "../shorten";
import type { Store } from "../store";
import { chooseFamily } from "./control";
import { SchemeSelect } from "./scheme";

/** Largest values as loaded: the full width of in-cell bars. */
export interface Most {
  bytes: number;
  ms: number;
}

export interface CellProps {
  store: Store;
  op: number;
  column: ColumnKey;
  tabIndex: number;
  most: Most;
}

const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufefc]/;

/** What an op is: words that no edit changes but for what bounds it. */
export function TextCell({ store, op, column }: CellProps): VNode {
  const { ops, modules } = store.program.value;
  const look = `tlr-cell tlr-cell-${column}`;
  switch (column) {
    case "name": {
      const name = ops.name[op]!;
      const title = [name, ops.opType[op], modules.path[ops.module[op]!], ops.source[op]];
      return <Split look={look} parts={lastCharacters(name, 10)} title={title.filter(Boolean).join("\n")} />;
    }
    case "module":
      return <Split look={look} parts={partsOfPath(modules.path[ops.module[op]!] || "model")} />;
    case "source":
      return <Split look={look} parts={lastCharacters(ops.source[op]!, 10)} />;
    case "module_class":
      return <Split look={look} parts={lastCharacters(modules.className[ops.module[op]!] ?? "", 8)} />;
    case "bound":
      return <BoundCell store={store} op={op} look={look} />;
    case "unit":
      return <UnitCell store={store} op={op} look={look} />;
    default: {
      const text = column === "output" ? ops.output[op]! : ops.opType[op]!;
      return (
        <div role="gridcell" class={look} title={text} dir="auto">
          {text}
        </div>
      );
    }
  }
}

/** Text that gives way in the middle where there is no room: its telling parts stay. */
function Split({ look, parts, title }: { look: string; parts: Parts; title?: string }): VNode {
  const text = parts.map(([part]) => part).join("");
  // The order of letters is not the order on screen there: such text is cut where it ends.
  const whole = RIGHT_TO_LEFT.test(text);
  return (
    <div role="gridcell" class={`${look} is-split`} title={title ?? text} dir={whole ? "rtl" : undefined}>
      {whole ? (
        <span class="tlr-text-gives">{text}</span>
      ) : (
        parts.map(([part, stays]) => (
          <span key={part} class={stays ? "tlr-text-stays" : "tlr-text-gives"}>
            {part}
          </span>
        ))
      )}
    </div>
  );
}

interface LookProps {
  store: Store;
  op: number;
  look: string;
}

function BoundCell({ store, op, look }: LookProps): VNode {
  const text = useComputed(() => {
    store.prices.totals.value;
    return BOUNDS[store.prices.live.bound[op]!]!;
  });
  return (
    <div role="gridcell" class={look}>
      {text}
    </div>
  );
}

/** Where the op runs; on hover, why it left the Neural Engine. */
function UnitCell({ store, op, look }: LookProps): VNode {
  const { units, unit, unitReason, unitReasons } = store.costs.value;
  const name = units[unit[op]!] ?? "";
  const measured = measuredUnit(store, op);
  const title =
    measured === ""
      ? (unitReasons[unitReason[op]!] ?? name)
      : `${measured}: where Core ML prefers to run it on ${store.measured.value?.machine}\nexpected: ${name}`;
  return (
    <div role="gridcell" class={look} title={title}>
      {measured === "" ? name : format.MEASURED + measured}
    </div>
  );
}

export function SchemeCell({ store, op, tabIndex }: CellProps): VNode {
  const weights = useComputed(() => store.weightsOf([op]));
  // Drawn again when the family changes, and not at every stop of a drag.
  const family = useComputed(() => {
    const now = common(store.costs.value, weights.value, store.edits.scheme);
    return now.editable === 0 ? null : now.family;
  }).value;
  const int8 = useComputed(() => store.edits.int8.value[op] === 1).value;
  const [open, setOpen] = useState(false);
  const name = store.program.value.ops.name[op]!;
  return (
    <div
      role="gridcell"
      class="tlr-cell tlr-cell-scheme"
      // The list is there from the press or the key that opens it: a thousand options would be much to scroll.
      onPointerDown={() => setOpen(true)}
      onFocusIn={() => setOpen(true)}
    >
      {weights.value.length === 0 ? null : family === null ? (
        <span class="tlr-faint">float16</span>
      ) : (
        <SchemeSelect
          costs={store.costs.value}
          weights={weights.value}
          held={store.edits.held}
          family={family}
          whole={open}
          label={`Scheme of ${name}`}
          tabIndex={tabIndex}
          choose={(next) => chooseFamily(store, weights.peek(), name, next)}
        />
      )}
      {int8 && (
        <span class="tlr-int8" title="int8 activations">
          A8
        </span>
      )}
    </div>
  );
}
