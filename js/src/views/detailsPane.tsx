import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { Store } from "../store";
import { Details } from "./details";
import { HeightHandle } from "./heightHandle";

const HEIGHT = 188;
const LEAST = 72;

/** Details below the graph: its upper edge is dragged or moved by keys, and it folds to its title. */
export function DetailsPane({ store }: { store: Store }): VNode {
  const [closed, setClosed] = useState(false);
  const [height, setHeight] = useState(HEIGHT);
  return (
    <div
      class={`tlr-details-pane${closed ? " is-closed" : ""}`}
      style={closed ? {} : { height: `${height}px` }}
    >
      {!closed && (
        <HeightHandle
          class="tlr-splitter"
          label="Height of the details"
          height={height}
          least={LEAST}
          edge="top"
          change={setHeight}
        />
      )}
      <Details store={store} closed={closed} toggle={() => setClosed(!closed)} />
    </div>
  );
}
