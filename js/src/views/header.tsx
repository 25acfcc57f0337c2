import type { VNode } from "preact";
import * as format from "../format";
import type { Store } from "../store";
import { BaselineMenu } from "./baselineMenu";
import { ExportMenu } from "./exportMenu";
import { OptimizeMenu } from "./optimizeMenu";

/** What the model is, and what applies to all of it: device, undo, export. */
export function Header({ store, uid }: { store: Store; uid: string }): VNode {
  const program = store.program.value;
  const { cursor, entries } = store.edits.rested.value;
  const undo = entries[cursor - 1]?.label;
  const redo = entries[cursor]?.label;
  const facts = [
    format.plural(program.ops.count, "op"),
    format.plural(program.weights.count, "weight"),
    program.target,
  ];
  const devices = store.devices.value.includes(store.device.value)
    ? store.devices.value
    : [store.device.value, ...store.devices.value];
  return (
    <header class="tlr-header">
      <h2 class="tlr-title tlr-ellipsis" title={program.name}>
        <bdi>{program.name}</bdi>
      </h2>
      <span class="tlr-muted tlr-facts" title={facts.join(" · ")}>
        {facts.join(" · ")}
      </span>
      <span class="tlr-spacer" />
      <select
        class="tlr-select is-button"
        aria-label="Device"
        value={store.device.value}
        onChange={(e) => store.chooseDevice(e.currentTarget.value)}
      >
        {devices.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
      <UnitSelect store={store} />
      <button
        type="button"
        class="tlr-button is-icon"
        aria-label="Undo"
        title={undo ? `Undo ${undo} (Ctrl or ⌘ Z)` : "Nothing to undo"}
        disabled={!store.edits.canUndo.value}
        onClick={() => store.edits.undo()}
      >
        ↶
      </button>
      <button
        type="button"
        class="tlr-button is-icon"
        aria-label="Redo"
        title={redo ? `Redo ${redo} (Shift Ctrl or ⌘ Z)` : "Nothing to redo"}
        disabled={!store.edits.canRedo.value}
        onClick={() => store.edits.redo()}
      >
        ↷
      </button>
      <BaselineMenu store={store} />
      <OptimizeMenu store={store} uid={uid} />
      <ExportMenu store={store} uid={uid} />
    </header>
  );
}

/** Where the app lets Core ML run the model; what nothing is known about on the device is greyed. */
function UnitSelect({ store }: { store: Store }): VNode {
  const { offeredUnits, device } = store.costs.value;
  return (
    <select
      class="tlr-select is-button"
      aria-label="Compute unit"
      title="Where the app lets Core ML run the model (MLComputeUnits): latency and energy are of that"
      value={store.computeUnit.value}
      onChange={(e) => store.chooseComputeUnit(e.currentTarget.value)}
    >
      {store.program.value.computeUnits.map(({ key, title }) => {
        const known = offeredUnits.length === 0 || offeredUnits.includes(key);
        return (
          <option
            key={key}
            value={key}
            disabled={!known}
            title={known ? key : `Nothing is known about it on ${device}`}
          >
            {title}
          </option>
        );
      })}
    </select>
  );
}
