import { type Signal, useComputed, useSignal } from "@preact/signals";
import type { VNode } from "preact";
import { useRef, useState } from "preact/hooks";
import { ALONG, type Along } from "../charts/front";
import { BOUNDS } from "../estimate";
import * as format from "../format";
import type { Store } from "../store";
import { boundColor, type Palette, rampGradient } from "../theme";
import { Choice } from "./choice";
import { HeightHandle } from "./heightHandle";
import { HistoryTab } from "./historyTab";
import { type KeptFront, ParetoTab } from "./paretoTab";
import { Scatter } from "./scatter";
import { SensitivityTab } from "./sensitivityTab";
import { describeOp, Timeline, type TimelineColour } from "./timeline";

interface DockProps {
  store: Store;
  palette: Signal<Palette | null>;
  uid: string;
}

const TABS = [
  ["timeline", "Timeline"],
  ["scatter", "Size × error"],
  ["pareto", "Pareto"],
  ["sensitivity", "Sensitivity"],
  ["history", "History"],
] as const;
type Tab = (typeof TABS)[number][0];

/** In pixels: those with two axes need more to be read. */
const HEIGHT = { timeline: 80, scatter: 132, pareto: 132, sensitivity: 132, history: 80 } as const;
const MIN_HEIGHT = 72;
const MAX_HEIGHT = 480;

/** Small charts below everything, one at a time; it folds away, and its upper edge can be dragged. */
export function Dock({ store, palette, uid }: DockProps): VNode {
  const [tab, setTab] = useState<Tab>("timeline");
  const [open, setOpen] = useState(true);
  /** what a person set it to, for all of them; 0 until then */
  const [wanted, setWanted] = useState(0);
  const height = wanted || HEIGHT[tab];
  const [colour, setColour] = useState<TimelineColour>("size");
  const [along, setAlong] = useState<Along>("bits");
  const front = useSignal<KeptFront | null>(null);
  /** a line on what is under the pointer and is no op */
  const note = useSignal("");
  const list = useRef<HTMLDivElement>(null);
  const show = (next: Tab): void => {
    setTab(next);
    note.value = "";
    setOpen(true);
  };
  const key = (e: KeyboardEvent): void => {
    const at = TABS.findIndex(([name]) => name === tab);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: TABS.length - 1 }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    e.stopPropagation();
    const next = (to + TABS.length) % TABS.length;
    show(TABS[next]![0]);
    list.current?.querySelectorAll<HTMLElement>("[role=tab]")[next]?.focus({ preventScroll: true });
  };
  return (
    <section class="tlr-dock" aria-label="Charts">
      {open && (
        <HeightHandle
          class="tlr-dock-handle"
          label="Height of the charts"
          height={height}
          least={MIN_HEIGHT}
          most={MAX_HEIGHT}
          edge="top"
          change={setWanted}
        />
      )}
      <div class="tlr-dock-bar">
        <div ref={list} class="tlr-tabs" role="tablist" aria-label="Charts" onKeyDown={key}>
          {TABS.map(([name, title]) => (
            <button
              key={name}
              type="button"
              role="tab"
              id={`${uid}-tab-${name}`}
              aria-selected={open && tab === name}
              aria-controls={`${uid}-dock`}
              tabIndex={tab === name ? 0 : -1}
              onClick={() => show(name)}
            >
              {title}
            </button>
          ))}
        </div>
        <Readout store={store} note={note} />
        {open && tab === "timeline" && (
          <TimelineColours palette={palette} colour={colour} change={setColour} />
        )}
        {open && tab === "pareto" && <ParetoAxis along={along} change={setAlong} />}
        <button
          type="button"
          class="tlr-button is-icon is-plain"
          aria-label={open ? "Fold the charts away" : "Show the charts"}
          aria-expanded={open}
          aria-controls={`${uid}-dock`}
          onClick={() => setOpen(!open)}
        >
          {open ? "▾" : "▴"}
        </button>
      </div>
      <div
        id={`${uid}-dock`}
        class="tlr-dock-panel"
        role="tabpanel"
        aria-labelledby={`${uid}-tab-${tab}`}
        hidden={!open}
        style={{ flexBasis: `${height}px` }}
      >
        {open && tab === "timeline" && <Timeline store={store} palette={palette} colour={colour} />}
        {open && tab === "scatter" && <Scatter store={store} palette={palette} note={note} />}
        {open && tab === "pareto" && (
          <ParetoTab store={store} palette={palette} note={note} front={front} along={along} />
        )}
        {open && tab === "sensitivity" && <SensitivityTab store={store} palette={palette} note={note} />}
        {open && tab === "history" && <HistoryTab store={store} />}
      </div>
    </section>
  );
}

/** A line on the op under the pointer, wherever that is. */
function Readout({ store, note }: { store: Store; note: Signal<string> }): VNode {
  const line = useComputed(() => {
    if (note.value !== "") return note.value;
    const hover = store.hover.value;
    if (!hover) return "";
    return hover.op >= 0 ? describeOp(store, hover.op) : placeOf(store, hover.modules);
  });
  return (
    <span class="tlr-dock-readout tlr-muted tlr-ellipsis">
      <bdi>{line}</bdi>
    </span>
  );
}

/** A module's path, or that of the first of several and how many they are. */
function placeOf(store: Store, modules: readonly number[]): string {
  const path = store.program.value.modules.path[modules[0] ?? -1] ?? "";
  return modules.length > 1 ? `${path} and ${format.grouped(modules.length - 1)} built alike` : path;
}

function ParetoAxis({ along, change }: { along: Along; change(along: Along): void }): VNode {
  return (
    <>
      <span class="tlr-dock-legend">
        <span>● best plans</span>
        <span>□ one scheme everywhere</span>
        <span>◆ this plan</span>
      </span>
      <Choice
        class="tlr-dock-colour"
        text="over"
        label="Budgets of the front"
        value={along}
        options={ALONG}
        change={change}
      />
    </>
  );
}

interface ColoursProps {
  palette: Signal<Palette | null>;
  colour: TimelineColour;
  change(colour: TimelineColour): void;
}

function TimelineColours({ palette, colour, change }: ColoursProps): VNode {
  const dark = palette.value?.dark ?? false;
  return (
    <>
      {colour === "bound" ? (
        <span class="tlr-dock-legend">
          {BOUNDS.map((bound, b) => (
            <span key={bound}>
              <i style={{ background: boundColor(dark, b) }} />
              {bound}
            </span>
          ))}
        </span>
      ) : (
        <span class="tlr-dock-legend">
          few
          <i class="is-ramp" style={{ background: rampGradient(dark) }} />
          many bytes
        </span>
      )}
      <Choice
        class="tlr-dock-colour"
        text="colour by"
        label="Colour the timeline by"
        value={colour}
        options={["size", "bound"]}
        change={change}
      />
    </>
  );
}
