import type { VNode } from "preact";
import { type ColumnGroup, type ColumnKey, TABLE_COLUMNS, type TableColumn, tooltip } from "../columns";
import type { Store } from "../store";
import { Check, Popover } from "./popover";

const GROUPS: readonly ColumnGroup[] = ["op", "weights", "time and energy", "work"];

/** Which columns the table shows: those that fit, or those that were chosen. */
export function ColumnMenu({ store, shown }: { store: Store; shown: readonly TableColumn[] }): VNode {
  const view = store.tableView.value;
  const now = shown.map((c) => c.key);
  const choose = (columns: readonly ColumnKey[] | null): void => {
    store.tableView.value = { ...store.tableView.peek(), columns };
  };
  return (
    <Popover
      text="columns"
      label="Columns"
      title="Choose which columns to show"
      align="right"
      on={view.columns !== null}
    >
      {() => (
        <>
          <div class="tlr-popover-list">
            {GROUPS.map((group) => (
              <fieldset key={group} class="tlr-popover-group">
                <legend>{group}</legend>
                {TABLE_COLUMNS.filter((c) => c.group === group).map((c) => (
                  <Check
                    key={c.key}
                    label={c.title}
                    title={tooltip(store.program.value, c)}
                    checked={now.includes(c.key)}
                    disabled={c.key === "name"}
                    toggle={() => {
                      const chosen = store.tableView.peek().columns ?? now;
                      choose(
                        chosen.includes(c.key) ? chosen.filter((key) => key !== c.key) : [...chosen, c.key],
                      );
                    }}
                  />
                ))}
              </fieldset>
            ))}
          </div>
          <div class="tlr-popover-foot">
            <button
              type="button"
              class="tlr-button"
              disabled={view.columns === null}
              title="Show as many as there is room for"
              onClick={() => choose(null)}
            >
              Those that fit
            </button>
          </div>
        </>
      )}
    </Popover>
  );
}
