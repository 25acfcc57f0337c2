import type { VNode } from "preact";
import { afterStep, stepName } from "../baseline";
import type { Store } from "../store";

const LOADED = "loaded";
const OTHER = "other";

/** What every change on screen is measured against: the model as loaded, a snapshot, or a step of the history. */
export function BaselineMenu({ store }: { store: Store }): VNode {
  const compared = store.compared.value;
  const snapshots = store.snapshots.value;
  const history = store.edits.rested.value;
  const loaded = store.loadedName.value;
  const at = compared ? snapshots.findIndex((kept) => kept.name === compared.name) : -1;
  const shown = compared === null ? LOADED : at >= 0 ? `snapshot ${at}` : OTHER;
  const choose = (key: string): void => {
    const [kind, index] = key.split(" ");
    if (kind === LOADED) store.compareWith(null);
    else if (kind === "snapshot") store.compareWith(snapshots[Number(index)] ?? null);
    else if (kind === "step") store.compareWith(afterStep(store.edits.history.peek(), Number(index)));
  };
  return (
    <select
      class="tlr-select is-button tlr-baseline"
      aria-label="Compare with"
      title={`Every change on screen is measured against ${store.baselineName.value}`}
      value={shown}
      onChange={(e) => choose(e.currentTarget.value)}
    >
      <option value={LOADED}>vs {loaded}</option>
      {shown === OTHER && <option value={OTHER}>vs {compared?.name}</option>}
      {snapshots.length > 0 && (
        <optgroup label="Snapshots">
          {snapshots.map((kept, i) => (
            <option key={kept.name} value={`snapshot ${i}`}>
              vs {kept.name}
            </option>
          ))}
        </optgroup>
      )}
      {history.entries.length > 0 && (
        <optgroup label="Steps">
          {[...history.entries.keys(), history.entries.length].map((step) => (
            <option key={step} value={`step ${step}`}>
              vs {stepName(history, step)}
            </option>
          ))}
        </optgroup>
      )}
    </select>
  );
}
