import { useSignal } from "@preact/signals";
import type { VNode } from "preact";
import { useCallback, useLayoutEffect, useRef, useState } from "preact/hooks";
import { watchTheme } from "../hostTheme";
import { ANYWHERE } from "../keys";
import { heightWithin } from "../room";
import type { Store } from "../store";
import { adoptStyles, DEFAULT_HEIGHT, MIN_HEIGHT, type Palette, readPalette } from "../theme";
import { Boundary, Sentence } from "./boundary";
import { Details } from "./details";
import { Explorer } from "./explorer";
import { ExportDialog } from "./exportDialog";
import { GraphView } from "./graph";
import { HeightHandle } from "./heightHandle";
import { KeysDialog } from "./keysDialog";
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

/** Words for how much room there is, from where each holds: styles/narrow.css says what they mean. */
const WIDTHS = [
  [1260, "wide"],
  [900, "medium"],
  [660, "narrow"],
  [480, "narrow small"],
  [1, "tiny"],
] as const;
const widthOf = (width: number): string => WIDTHS.find(([least]) => width >= least)?.[1] ?? "wide";

const typing = (target: EventTarget | null): boolean =>
  target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement;

/** Frame of every view: theme, height, and the keys that work anywhere inside. */
export function Root({ store, view, height }: RootProps): VNode {
  const root = useRef<HTMLDivElement>(null);
  const palette = useSignal<Palette | null>(null);
  const [uid] = useState(() => `tlr-${++instances}`);
  const [keysShown, setKeysShown] = useState(false);
  const natural = NATURAL_HEIGHT[view];
  const [tall, setTall] = useState(height > 0 ? height : natural);
  const fit = useCallback(() => {
    setTall(height > 0 || natural === undefined ? height || natural : heightWithin(root.current!, natural));
  }, [height, natural]);
  useLayoutEffect(fit, [fit]);

  useLayoutEffect(() => {
    const el = root.current!;
    const theme = watchTheme(el, () => {
      palette.value = readPalette(el);
    });
    // A notebook may fill the cell before it is in the page; the first size says that it now is.
    let shown = false;
    // What is hidden has no width; it stays as it was, for it may be shown again without another word of its size.
    const fold = (): void => {
      const width = el.offsetWidth;
      if (width > 0 || el.dataset.width === undefined) el.dataset.width = widthOf(width);
    };
    fold();
    const observer = new ResizeObserver(() => {
      if (!shown) {
        shown = true;
        adoptStyles(el);
        theme.look();
        requestAnimationFrame(fit);
      }
      // Not now: it may change the height, and what is watched must not change while it is told of.
      requestAnimationFrame(fold);
    });
    observer.observe(el);
    return () => {
      theme.stop();
      observer.disconnect();
    };
  }, [palette, fit]);

  const key = (e: KeyboardEvent): void => {
    const fits = ANYWHERE.filter((shortcut) => shortcut.typing || !typing(e.target));
    if (!fits.some((shortcut) => shortcut.matches(e) && shortcut.run(store, () => setKeysShown(true)))) {
      // A notebook that hears Enter in a field keeps the field's form from being sent. Its commands may go on.
      if (typing(e.target) && !(e.ctrlKey || e.metaKey || e.altKey)) e.stopPropagation();
      return;
    }
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
      // Without this the notebook's own one-letter commands and arrows would act on keys pressed in here. It looks at
      // what has the focus first, and only then at what is around that.
      data-lm-suppress-shortcuts="true"
      onFocusIn={(e) => (e.target as Element).setAttribute("data-lm-suppress-shortcuts", "true")}
      style={tall === undefined ? {} : { height: `${tall}px` }}
      onKeyDown={key}
    >
      {store.presence.sentence.value && (
        <p class="tlr-offline" role="status">
          {store.presence.sentence.value}
        </p>
      )}
      {store.program.value.ops.count === 0 ? (
        <Sentence>Loading the model…</Sentence>
      ) : (
        <Boundary what="This view">
          {view === "explorer" && <Explorer store={store} palette={palette} uid={uid} />}
          {view === "summary" && <Summary store={store} />}
          {view === "table" && <Table store={store} uid={uid} />}
          {view === "graph" && <GraphView store={store} palette={palette} uid={uid} />}
          {view === "details" && <Details store={store} />}
          {view === "sliders" && <Sliders store={store} />}
        </Boundary>
      )}
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
      {keysShown && <KeysDialog close={() => setKeysShown(false)} />}
    </div>
  );
}
