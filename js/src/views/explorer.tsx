import type { Signal } from "@preact/signals";
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { Store } from "../store";
import type { Palette } from "../theme";
import { Boundary, Sentence } from "./boundary";
import { DetailsPane } from "./detailsPane";
import { Dock } from "./dock";
import { GraphView } from "./graph";
import { Header } from "./header";
import { Sliders } from "./sliders";
import { Summary } from "./summary";
import { Table } from "./table";

interface ExplorerProps {
  store: Store;
  palette: Signal<Palette | null>;
  uid: string;
}

const PARTS = [
  ["table", "Ops"],
  ["graph", "Graph and details"],
] as const;

export function Explorer({ store, palette, uid }: ExplorerProps): VNode {
  // In a narrow Explorer one of them is shown.
  const [part, setPart] = useState<(typeof PARTS)[number][0]>("table");
  return (
    <>
      <div class="tlr-too-narrow">
        <Sentence>
          There is no room for the Explorer here. Make the cell wider, or show session.table or
          session.summary.
        </Sentence>
      </div>
      <Boundary what="The header">
        <Header store={store} uid={uid} />
      </Boundary>
      <Boundary what="The totals">
        <Summary store={store} />
      </Boundary>
      <div class="tlr-parts" role="group" aria-label="Part to show">
        {PARTS.map(([name, title]) => (
          <button
            key={name}
            type="button"
            class="tlr-button is-part"
            aria-pressed={part === name}
            onClick={() => setPart(name)}
          >
            {title}
          </button>
        ))}
      </div>
      <div class="tlr-body" data-part={part}>
        <div class="tlr-left">
          <Boundary what="The graph">
            <GraphView store={store} palette={palette} uid={uid} />
          </Boundary>
          <Boundary what="The panel of details">
            <DetailsPane store={store} />
          </Boundary>
        </div>
        <div class="tlr-right">
          <Boundary what="The table">
            <Table store={store} uid={uid} />
          </Boundary>
          <Boundary what="The bar of sliders">
            <Sliders store={store} />
          </Boundary>
        </div>
      </div>
      <Boundary what="The chart">
        <Dock store={store} palette={palette} uid={uid} />
      </Boundary>
    </>
  );
}
