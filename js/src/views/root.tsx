import { useSignal } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Store } from "../store";
import { adoptStyles, DEFAULT_HEIGHT, MIN_HEIGHT, type Palette, readPalette, watchTheme } from "../theme";
import { Details } from "./details";
import { Explorer } from "./explorer";
import { ExportDialog } from "./exportDialog";
import { GraphView } from "./graph";
import { HeightHandle } from "./heightHandle";
import { Sliders } from "./sliders";
import { Summary } from "./summary";
import { Table } from "./table";

export type ViewName = "explorer" | "summary" | "table" | "graph" | "details" | "sliders";

interface RootProps {
  store: Store;
  view: ViewName;
  height: number;
}

const NATURAL_HEIGHT: Partial<Record<ViewName, number>> = {
  explorer: DEFAULT_HEIGHT,
  table: 480,
  graph: 480,
  details: 480,
};
let instances = 0;

/** Frame of every view: theme, height, and the keys that work anywhere inside. */
export function Root({ store, view, height }: RootProps): VNode {
  const root = useRef<HTMLDivElement>(null);
  const palette = useSignal<Palette | null>(null);
  const [uid] = useState(() => `tlr-${++instances}`);
  const natural = NATURAL_HEIGHT[view];
  const [tall, setTall] = useState(height > 0 ? height : natural);
  useEffect(() => setTall(height > 0 ? height : natural), [height, natural]);

  useLayoutEffect(() => {
    const el = root.current!;
    const refresh = (): void => {
      palette.value = readPalette(el);
    };
    const stop = watchTheme(el, refresh);
    // A notebook may fill the cell before it is in the page; the first size says that it now is.
    const observer = new ResizeObserver(() => {
      adoptStyles(el);
      refresh();
      observer.disconnect();
    });
    observer.observe(el);
    return () => {
      stop();
      observer.disconnect();
    };
  }, [palette]);

  const key = (e: KeyboardEvent): void => {
    const typing = e.target instanceof HTMLInputElement || e.target instanceof HTMLTextAreaElement;
    const command = e.ctrlKey || e.metaKey;
    const letter = e.key.toLowerCase();
    if (command && !typing && (letter === "z" || letter === "y")) {
      if (letter === "y" || e.shiftKey) store.redo();
      else store.undo();
    } else if (e.key === "Escape" && store.selection.peek().ops.length > 0) {
      store.select([], "table");
    } else return;
    e.preventDefault();
    e.stopPropagation();
  };

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: keys of the whole view; each control has its own role
    <div
      ref={root}
      class={`tlr tlr-view-${view}`}
      // A click on anything that takes no focus itself gives it to the view, not to the notebook's cell: keys go on here.
      tabIndex={-1}
      // Without this the notebook's own one-letter commands would act on keys pressed in here.
      data-lm-suppress-shortcuts="true"
      style={tall === undefined ? {} : { height: `${tall}px` }}
      onKeyDown={key}
    >
      {view === "explorer" && <Explorer store={store} palette={palette} uid={uid} />}
      {view === "summary" && <Summary store={store} />}
      {view === "table" && <Table store={store} uid={uid} />}
      {view === "graph" && <GraphView store={store} palette={palette} uid={uid} />}
      {view === "details" && <Details store={store} />}
      {view === "sliders" && <Sliders store={store} />}
      {view === "explorer" && (
        <HeightHandle
          class="tlr-handle"
          label="Height of the Explorer"
          height={tall ?? DEFAULT_HEIGHT}
          least={MIN_HEIGHT}
          edge="bottom"
          change={setTall}
        />
      )}
      {view === "explorer" && <ExportDialog store={store} />}
    </div>
  );
}
