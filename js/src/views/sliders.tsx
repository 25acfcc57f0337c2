import { useComputed } from "@preact/signals";
import type { VNode } from "preact";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { isFiltered } from "../filters";
import * as format from "../format";
import { repeatsOf } from "../repeats";
import { commonKind } from "../schemes";
import type { Store } from "../store";
import { Bits } from "./bits";
import { activationsOf, chooseFamily, chooseStop, resetToFloat16, useControl } from "./control";
import { GrainSelect, KindSelect } from "./kinds";

const MODULES_NAMED = 2;
/** Of the slider, in pixels. */
const WIDTH = 108;

/** The control for the selection, or for the whole model when nothing is selected. */
export function Sliders({ store }: { store: Store }): VNode {
  const weights = store.targets.value;
  // Of the control only what a drag leaves as it is: all else is written through signals.
  const control = useControl(store, store.targets);
  const editable = useComputed(() => control.value.editable).value;
  const family = useComputed(() => control.value.family).value;
  const shared = useComputed(() => control.value.at >= 0).value;
  const kind = useComputed(() =>
    commonKind(store.costs.value, store.targets.value, store.edits.scheme),
  ).value;
  const short = useComputed(() => (control.value.editable === 0 ? "–" : control.value.short));
  const unit = useComputed(() => (control.value.short === "1" ? "bit" : "bits"));
  const note = useComputed(() => message(store, control.value.editable === 0));
  const costs = store.costs.value;
  const selected = store.selection.value.ops.length;
  const places = useComputed(() => placesOf(store));
  const what = selected === 0 ? "all weights" : format.plural(selected, "op");
  const choose = (family: string): void => {
    if (family !== costs.families[0]?.key) store.preferredFamily.value = family;
    chooseFamily(store, weights, what, family);
  };
  const chosen = {
    costs,
    weights,
    held: store.edits.held.value,
    kind,
    family,
    choose,
  };
  const bar = useRef<HTMLDivElement>(null);
  // A key on a slider of some ops would set all weights once nothing is selected any more.
  useLayoutEffect(() => {
    const { activeElement } = bar.current!.getRootNode() as Document | ShadowRoot;
    if (selected === 0 && bar.current!.contains(activeElement)) bar.current!.focus({ preventScroll: true });
  }, [selected]);
  return (
    <div
      ref={bar}
      tabIndex={-1}
      class={`tlr-sliders${selected > 0 ? " is-selection" : ""}`}
      role="group"
      aria-label="Edit weights"
    >
      <div class="tlr-sliders-bar">
        <span class="tlr-sliders-what" title={places.value}>
          <strong>{selected === 0 ? "All weights" : format.plural(selected, "op")}</strong>
          <span class="tlr-muted tlr-sliders-more">
            {selected === 0
              ? `${format.grouped(editable)} compressible`
              : editable > 0
                ? format.plural(editable, "weight")
                : ""}
          </span>
          <span class="tlr-muted tlr-ellipsis tlr-sliders-most">{places.value}</span>
        </span>
        <KindSelect {...chosen} label={`Scheme of ${what}`} />
        <span class="tlr-sliders-bits">
          <Bits
            control={control}
            label={`Bits of ${what}`}
            width={WIDTH}
            begin={() => store.edits.begin()}
            choose={(stop, gesture) => chooseStop(store, weights, what, stop, gesture)}
            end={() => store.edits.end()}
          />
          <span class="tlr-bits-value">{short}</span>
          {editable > 0 && shared && <span class="tlr-muted">{unit}</span>}
        </span>
        <GrainSelect {...chosen} label={`Groups of ${what}`} />
        <ActivationsToggle store={store} what={selected === 0 ? "all ops" : what} />
        <span class="tlr-note" role="status">
          {note}
        </span>
        <RepeatsButton store={store} />
        <button
          type="button"
          class="tlr-button"
          title={`Set ${what} back to float16`}
          onClick={() => resetToFloat16(store, weights, what)}
        >
          Reset
        </button>
      </div>
    </div>
  );
}

/** The same ops in all modules that are built like those of the selection. */
function RepeatsButton({ store }: { store: Store }): VNode | null {
  const { ops } = store.selection.value;
  const program = store.program.value;
  const repeats = useMemo(() => (ops.length > 0 ? repeatsOf(program, ops) : null), [program, ops]);
  if (!repeats || repeats.ops.length <= ops.length) return null;
  return (
    <button
      type="button"
      class="tlr-button is-quiet"
      title={`Select the same ops in all modules that are built alike: ${format.plural(repeats.ops.length, "op")} in ${format.grouped(repeats.count)} blocks`}
      onClick={() => store.select(repeats.ops, "table")}
    >
      {`all ${format.grouped(repeats.count)} repeats`}
      <span class="tlr-sliders-most"> of this block</span>
    </button>
  );
}

/** int8 activations for the selection or for all ops: what is not pressed throughout is pressed next. */
function ActivationsToggle({ store, what }: { store: Store; what: string }): VNode {
  const { ops, on, reason } = useComputed(() => activationsOf(store)).value;
  const all = on === ops.length;
  const counted = `${format.grouped(on)} of ${format.plural(ops.length, "op")}`;
  const title =
    ops.length === 0
      ? `int8 activations: none here can have them. ${reason}`
      : `int8 activations: ${counted}. Ops whose weights are int8 too run faster from A16 and M4 on.${reason === "" ? "" : `\nOthers cannot have them. ${reason}`}`;
  return (
    <button
      type="button"
      class={`tlr-button is-toggle${on > 0 ? " is-on" : ""}`}
      aria-label={`A8: int8 activations of ${what}`}
      aria-pressed={ops.length > 0 && all ? "true" : on > 0 ? "mixed" : "false"}
      aria-disabled={ops.length === 0}
      title={title}
      onClick={() => {
        if (ops.length === 0) return;
        store.edits.setActivations(ops, !all, `${what}: ${all ? "float16 activations" : "int8 activations"}`);
      }}
    >
      A8<span class="tlr-sliders-most"> activations</span>
    </button>
  );
}

function message(store: Store, nothing: boolean): string {
  const skipped = store.edits.skipped.value;
  if (skipped > 0)
    return `${format.plural(skipped, "weight")} cannot take this and ${skipped === 1 ? "was" : "were"} skipped`;
  if (nothing) return "no compressible weights here";
  // Who looked for some ops and sees only those might take them for all that is set.
  const hidden = isFiltered(store.tableView.value) && store.selection.value.ops.length === 0;
  return hidden ? "sets those that are not shown, too" : "";
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
