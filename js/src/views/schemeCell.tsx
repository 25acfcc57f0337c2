import { useComputed, useSignal } from "@preact/signals";
import type { VNode } from "preact";
import { useRef } from "preact/hooks";
import { FLOAT16 } from "../schemes";
import type { CellProps } from "./cells";
import { chooseFamily, useCommon } from "./control";
import { useSettled } from "./inline";
import { SchemeSelect } from "./scheme";

/** The scheme of an op's weights, and whether its activations are int8. */
export function SchemeCell({ store, op, scheme, column, tabIndex }: CellProps): VNode {
  const weights = useComputed(() => store.weightsOf([op.value]));
  const now = useCommon(store, weights, scheme);
  const editable = useSettled(() => now.value.editable > 0);
  // What nobody sees stays as it is.
  const last = useRef(store.costs.peek().schemes[FLOAT16]?.family ?? "");
  const family = useSettled(() => {
    if (now.value.editable > 0) last.current = now.value.family;
    return last.current;
  });
  const fixed = useComputed(() => (weights.value.length > 0 && !editable.value ? "float16" : ""));
  const label = useComputed(() =>
    editable.value ? `Scheme of ${store.program.value.ops.name[op.value] ?? ""}` : undefined,
  );
  const int8 = useComputed(() => (store.edits.int8.value[op.value] === 1 ? "A8" : ""));
  // The list is there from the press or the key that opens it: a thousand options would be much to scroll.
  const opened = useSignal(-1);
  const whole = useComputed(() => opened.value === op.value).value;
  const open = (): void => {
    opened.value = op.peek();
  };
  const away = useComputed(() => !editable.value);
  return (
    <div role="gridcell" class={`tlr-cell tlr-cell-${column}`} onPointerDown={open} onFocusIn={open}>
      <span class="tlr-faint">{fixed}</span>
      <SchemeSelect
        costs={store.costs.value}
        weights={weights}
        held={store.edits.held}
        family={family}
        whole={whole}
        away={away}
        label={label}
        tabIndex={tabIndex}
        choose={(next) =>
          chooseFamily(store, weights.peek(), store.program.peek().ops.name[op.peek()]!, next)
        }
      />
      <span class="tlr-int8" title="int8 activations">
        {int8}
      </span>
    </div>
  );
}
