import type { Signal } from "@preact/signals";
import type { VNode } from "preact";
import type { Store } from "../store";
import type { Palette } from "../theme";
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

export function Explorer({ store, palette, uid }: ExplorerProps): VNode {
  return (
    <>
      <Header store={store} uid={uid} />
      <Summary store={store} />
      <div class="tlr-body">
        <div class="tlr-left">
          <GraphView store={store} palette={palette} uid={uid} />
          <DetailsPane store={store} />
        </div>
        <div class="tlr-right">
          <Table store={store} uid={uid} />
          <Sliders store={store} />
        </div>
      </div>
      <Dock store={store} palette={palette} uid={uid} />
    </>
  );
}
