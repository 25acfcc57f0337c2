import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { isFiltered, type PickKey, unfiltered, withPick } from "../filters";
import * as format from "../format";
import { texts } from "../opValues";
import type { Store } from "../store";
import { Check, Popover } from "./popover";

const TITLES: Record<PickKey, string> = { op_type: "type", module: "module", bound: "bound", unit: "unit" };

/** Longer lists get a box to search in, and show no more than so many. */
const SEARCH_FROM = 14;
const MOST = 200;

interface FilterMenusProps {
  store: Store;
  /** ops that pass every other filter than that of a menu */
  others(key: PickKey): Int32Array;
}

/** A menu for each column whose values are few, and what takes all filters back. */
export function FilterMenus({ store, others }: FilterMenusProps): VNode {
  const view = store.tableView.value;
  const units = new Set(store.costs.value.unit).size;
  return (
    <>
      {(["op_type", "module", "bound", "unit"] as const).map((key) =>
        key === "unit" && units < 2 && !view.picks.unit ? null : (
          <FilterMenu key={key} store={store} column={key} others={others} />
        ),
      )}
      {isFiltered(view) && (
        <button
          type="button"
          class="tlr-button is-quiet"
          aria-label="Clear filters"
          title="Show all ops again"
          onClick={() => {
            store.tableView.value = unfiltered(view);
          }}
        >
          Clear
        </button>
      )}
    </>
  );
}

function FilterMenu({
  store,
  column,
  others,
}: {
  store: Store;
  column: PickKey;
  others: FilterMenusProps["others"];
}): VNode {
  const view = store.tableView.value;
  const chosen = view.picks[column] ?? [];
  const title = TITLES[column];
  const named = chosen[0] === "" ? "model" : chosen[0];
  const text =
    chosen.length === 0 ? title : chosen.length === 1 ? String(named) : `${title}: ${chosen.length}`;
  return (
    <Popover
      text={text}
      label={`Filter by ${title}${chosen.length > 0 ? `: ${chosen.map((name) => name || "model").join(", ")}` : ""}`}
      title={`Show only ops of some ${title === "type" ? "types" : `${title}s`}`}
      on={chosen.length > 0}
    >
      {() => <Choices store={store} column={column} chosen={chosen} others={others} />}
    </Popover>
  );
}

interface Choice {
  name: string;
  label: string;
  count: number;
  depth: number;
  /** how many characters of the label its place in the list says already */
  parent: number;
}

function Choices({
  store,
  column,
  chosen,
  others,
}: {
  store: Store;
  column: PickKey;
  chosen: readonly string[];
  others: FilterMenusProps["others"];
}): VNode {
  const [query, setQuery] = useState("");
  const choices = column === "module" ? modules(store, others(column)) : names(store, column, others(column));
  const found = choices.filter(({ label }) => label.toLowerCase().includes(query.trim().toLowerCase()));
  const choose = (change: (chosen: readonly string[]) => readonly string[]): void => {
    const now = store.tableView.peek();
    store.tableView.value = withPick(now, column, change(now.picks[column] ?? []));
  };
  return (
    <>
      {choices.length >= SEARCH_FROM && (
        <input
          class="tlr-search"
          type="search"
          aria-label={`Search ${TITLES[column]}s`}
          placeholder={`Search ${TITLES[column]}s`}
          value={query}
          onInput={(e) => setQuery(e.currentTarget.value)}
        />
      )}
      <div class="tlr-popover-list">
        {found.slice(0, MOST).map(({ name, label, count, depth, parent }) => (
          <Check
            key={name}
            label={query === "" ? label.slice(parent) : label}
            title={label}
            hint={format.grouped(count)}
            depth={query === "" ? depth : 0}
            checked={chosen.includes(name)}
            toggle={() =>
              choose((now) => (now.includes(name) ? now.filter((other) => other !== name) : [...now, name]))
            }
          />
        ))}
        {found.length > MOST && (
          <div class="tlr-popover-note">{`and ${format.grouped(found.length - MOST)} more: type to narrow`}</div>
        )}
        {found.length === 0 && <div class="tlr-popover-note">Nothing of that name</div>}
      </div>
      <div class="tlr-popover-foot">
        <button
          type="button"
          class="tlr-button"
          disabled={chosen.length === 0}
          onClick={() => choose(() => [])}
        >
          All
        </button>
      </div>
    </>
  );
}

/** What there is in a column, the most frequent first. */
function names(store: Store, column: PickKey, ops: Int32Array): Choice[] {
  const text = texts(store, column);
  const counts = new Map<string, number>();
  for (let op = 0; op < store.program.peek().ops.count; op++) counts.set(text(op), 0);
  for (const op of ops) counts.set(text(op), counts.get(text(op))! + 1);
  return [...counts]
    .map(([name, count]) => ({ name, label: name, count, depth: 0, parent: 0 }))
    .sort((a, b) => b.count - a.count || (a.name < b.name ? -1 : 1));
}

/** The tree of modules that hold ops, each with all inside it counted. */
function modules(store: Store, ops: Int32Array): Choice[] {
  const { modules: all, ops: program } = store.program.peek();
  const [counts, ever] = [new Float64Array(all.count), new Uint8Array(all.count)];
  for (const op of ops) counts[program.module[op]!]!++;
  for (const m of program.module) ever[m] = 1;
  const depth = new Int32Array(all.count);
  for (let m = 1; m < all.count; m++) depth[m] = depth[all.parent[m]!]! + 1;
  // Children come after their parents.
  for (let m = all.count - 1; m > 0; m--) {
    counts[all.parent[m]!]! += counts[m]!;
    if (ever[m]) ever[all.parent[m]!] = 1;
  }
  return Array.from({ length: all.count }, (_, m) => m)
    .filter((m) => m > 0 && ever[m])
    .map((m) => {
      const above = all.path[all.parent[m]!]!;
      const [name, parent] = [all.path[m]!, above === "" ? 0 : above.length + 1];
      return { name, label: name, count: counts[m]!, depth: depth[m]! - 1, parent };
    });
}
