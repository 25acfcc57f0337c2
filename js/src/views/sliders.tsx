import { useComputed } from "@preact/signals";
import type { VNode } from "preact";
import * as format from "../format";
import type { Store } from "../store";
import { Bits } from "./bits";
import { activationsOf, chooseFamily, chooseStop, controlFor, resetToFloat16 } from "./control";
import { SchemeSelect } from "./scheme";

const MODULES_NAMED = 2;

/** The control for the selection, or for the whole model when nothing is selected. */
export function Sliders({ store }: { store: Store }): VNode {
  const weights = store.targets.value;
  const control = controlFor(store, weights);
  const costs = store.costs.value;
  const selected = store.selection.value.ops.length;
  const places = useComputed(() => placesOf(store));
  const what = selected === 0 ? "all weights" : format.plural(selected, "op");
  const nothing = control.editable === 0;
  return (
    <div class={`tlr-sliders${selected > 0 ? " is-selection" : ""}`} role="group" aria-label="Edit weights">
      <span class="tlr-sliders-what">
        <strong>{selected === 0 ? "All weights" : `${format.grouped(selected)} selected`}</strong>
        <span class="tlr-muted tlr-ellipsis" title={places.value}>
          {selected === 0 ? format.plural(control.editable, "compressible weight") : places.value}
        </span>
      </span>
      <SchemeSelect
        costs={costs}
        weights={weights}
        held={store.startScheme()}
        framed
        family={control.family}
        label={`Scheme of ${what}`}
        choose={(family) => {
          if (family !== costs.families[0]?.key) store.preferredFamily.value = family;
          chooseFamily(store, weights, what, family);
        }}
      />
      <span class="tlr-sliders-bits">
        <Bits
          stops={control.stops}
          at={control.at}
          mean={control.mean}
          label={`Bits of ${what}`}
          valueText={control.valueText}
          begin={() => store.beginGesture()}
          choose={(stop, gesture) => chooseStop(store, weights, what, stop, gesture)}
          end={() => store.endGesture()}
        />
        <span class="tlr-bits-value">{nothing ? "–" : control.short}</span>
        {!nothing && control.at >= 0 && (
          <span class="tlr-muted">{control.short === "1" ? "bit" : "bits"}</span>
        )}
      </span>
      <ActivationsToggle store={store} what={selected === 0 ? "all ops" : what} />
      <span class="tlr-note" role="status">
        {message(store, nothing)}
      </span>
      <button
        type="button"
        class="tlr-button"
        title={`Set ${what} back to float16`}
        onClick={() => resetToFloat16(store, weights, what)}
      >
        Reset
      </button>
    </div>
  );
}

/** int8 activations for the selection or for all ops: what is not pressed throughout is pressed next. */
function ActivationsToggle({ store, what }: { store: Store; what: string }): VNode | null {
  const { ops, on } = useComputed(() => activationsOf(store)).value;
  if (ops.length === 0) return null;
  const all = on === ops.length;
  const counted = `${format.grouped(on)} of ${format.plural(ops.length, "op")}`;
  return (
    <button
      type="button"
      class={`tlr-button is-toggle${on > 0 ? " is-on" : ""}`}
      aria-label={`int8 activations of ${what}`}
      aria-pressed={all ? "true" : on > 0 ? "mixed" : "false"}
      title={`int8 activations: ${counted}. Ops whose weights are int8 too run faster from A17 Pro and M4 on.`}
      onClick={() =>
        store.setActivations(ops, !all, `${what}: ${all ? "float16 activations" : "int8 activations"}`)
      }
    >
      A8
    </button>
  );
}

function message(store: Store, nothing: boolean): string {
  const skipped = store.skipped.value;
  if (skipped > 0)
    return `${format.plural(skipped, "weight")} cannot take this and ${skipped === 1 ? "was" : "were"} skipped`;
  return nothing ? "no compressible weights here" : "";
}

/** "in blocks.5, blocks.6 and 3 more" */
function placesOf(store: Store): string {
  const { ops, modules } = store.program.value;
  const paths = new Set<string>();
  for (const op of store.selection.value.ops) {
    paths.add(modules.path[ops.module[op]!] || "model");
    if (paths.size > 200) break;
  }
  const list = [...paths];
  const rest = list.length - MODULES_NAMED;
  const named = list.slice(0, MODULES_NAMED).join(", ");
  return list.length === 0 ? "" : `in ${named}${rest > 0 ? ` and ${rest > 198 ? "many" : rest} more` : ""}`;
}
