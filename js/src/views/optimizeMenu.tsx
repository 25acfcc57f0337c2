import type { VNode } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { parseBudget } from "../budgets";
import * as format from "../format";
import { type Offer, planFor, type Wanted } from "../optimize";
import type { Store } from "../store";
import { Refine, RefineMark } from "./refine";
import { WordForm } from "./wordForm";

/** The button, and beside the Explorer, not over it, what finds the best plan for a budget. */
export function OptimizeMenu({ store, uid }: { store: Store; uid: string }): VNode {
  const [open, setOpen] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const id = `${uid}-optimize`;
  const close = (): void => {
    setOpen(false);
    button.current?.focus({ preventScroll: true });
  };
  return (
    <div class="tlr-menu-anchor">
      <button
        ref={button}
        type="button"
        class="tlr-button is-menu"
        aria-haspopup="dialog"
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        title="Find the plan of least error within a budget"
        onClick={() => setOpen(!open)}
      >
        Optimize…
        <RefineMark store={store} />
      </button>
      {open && <Panel id={id} store={store} close={close} />}
    </div>
  );
}

const STOPS = 1000;

/** Position of the slider → bits a weight, evenly in their ratio, rounded up to hundredths. */
const bitsAt = ({ steps }: Offer, stop: number): number =>
  Math.ceil(steps.least * (steps.most / steps.least) ** (stop / STOPS) * 100 - 1e-9) / 100;

function stopOf({ steps }: Offer, bits: number): number {
  const at = Math.log(bits / steps.least) / Math.log(steps.most / steps.least);
  return Number.isFinite(at) ? Math.round(STOPS * Math.min(1, Math.max(0, at))) : 0;
}

function Panel({ id, store, close }: { id: string; store: Store; close(): void }): VNode {
  const { optimizer } = store;
  const panel = useRef<HTMLDivElement>(null);
  const [text, setText] = useState("");
  // Of which plan the budget in words was written: that plan's slider shows it.
  const [written, setWritten] = useState<Uint16Array | null>(null);
  const [keep, setKeep] = useState(false);
  const selected = store.selection.value.ops;
  const kept = keep ? selected : NONE;
  const costs = store.costs.value;
  useEffect(() => {
    panel.current?.querySelector<HTMLElement>("input[type=text]")?.focus({ preventScroll: true });
  }, []);
  useLayoutEffect(() => keepBelowTotals(panel.current!), []);
  // Asked again for whatever makes other plans the best ones.
  useEffect(() => {
    void optimizer.open(kept);
  }, [optimizer, costs.device, costs.schemes.length, store.errors.value, kept]);
  useEffect(() => () => optimizer.cancel(), [optimizer]);
  const find = (wanted: Wanted, gesture = ""): void => void optimizer.find(wanted, kept, gesture);
  const { scheme } = store.edits.history.value;
  const budget = written === scheme ? parseBudget(text, store.program.value.budgetUnits) : null;
  const offer = optimizer.offer.value;
  const found = optimizer.found.value;
  return (
    <div
      ref={panel}
      id={id}
      class="tlr-menu tlr-optimize"
      role="dialog"
      aria-label="Best plan for a budget"
      onKeyDown={(e) => {
        if (e.key === "Escape") close();
        else if (!(e.ctrlKey || e.metaKey)) {
          e.stopPropagation();
          return;
        } else return;
        e.preventDefault();
        e.stopPropagation();
      }}
    >
      <div class="tlr-optimize-head">
        <h3>Best plan for a budget</h3>
        <button type="button" class="tlr-button is-icon is-plain" aria-label="Close" onClick={close}>
          ✕
        </button>
      </div>
      <WordForm
        class="tlr-optimize-row"
        label="Budget"
        placeholder="3.6 bits, 4 MB, 5 ms or 2 mJ"
        text={text}
        change={(next) => {
          setText(next);
          setWritten(scheme);
        }}
        action="Find"
        primary
        submit={(budget) => find({ what: "budget", budget })}
      />
      <BudgetSlider
        store={store}
        offer={offer}
        find={find}
        wanted={budget?.[0] === "bits" ? budget[1] : null}
        dragged={(bits) => {
          setText(`${bits} bits`);
          setWritten(null);
        }}
      />
      <label class="tlr-optimize-keep">
        <input
          type="checkbox"
          checked={keep && selected.length > 0}
          disabled={selected.length === 0}
          onChange={(e) => setKeep(e.currentTarget.checked)}
        />{" "}
        Keep the selection as it is{" "}
        <span class="tlr-muted">
          {selected.length > 0 ? `(${format.plural(selected.length, "op")})` : "(nothing is selected)"}
        </span>
      </label>
      <Presets offer={offer} find={find} />
      {offer && (
        <p class="tlr-optimize-grade">
          <strong>{`Error: ${offer.what}.`}</strong> {offer.warning}
        </p>
      )}
      <Waiting store={store} />
      <p
        class={`tlr-optimize-found${found && !found.ok ? " tlr-error" : ""}`}
        role={found && !found.ok ? "alert" : "status"}
      >
        {found?.message ?? ""}
      </p>
      <Refine store={store} kept={kept} />
    </div>
  );
}

const NONE: readonly number[] = [];

/** From what is above a panel to the panel, in pixels; styles/export.css has the same. */
const GAP = 5;

/** Keep a panel where the totals, which a drag in it changes, are seen: below them as far as there is room. */
function keepBelowTotals(panel: HTMLElement): () => void {
  const view = panel.closest(".tlr")!;
  const place = (): void => {
    const totals = view.querySelector(".tlr-summary")?.getBoundingClientRect().bottom;
    const button = panel.parentElement!.getBoundingClientRect();
    if (totals === undefined) return;
    const lowest = view.getBoundingClientRect().bottom - panel.offsetHeight - GAP;
    panel.style.top = `${Math.max(button.height + GAP, Math.min(totals + GAP, lowest) - button.top)}px`;
  };
  const observer = new ResizeObserver(place);
  observer.observe(panel);
  observer.observe(view);
  place();
  return () => observer.disconnect();
}

interface FindProps {
  offer: Offer | null;
  find(wanted: Wanted, gesture?: string): void;
}

interface BudgetSliderProps extends FindProps {
  store: Store;
  /** bits a weight that were written and not asked for yet */
  wanted: number | null;
  dragged(bits: number): void;
}

/** Dragging takes plans from the steps at hand; letting go has Python find the best one. All of it is one step. */
function BudgetSlider({ store, offer, find, wanted, dragged }: BudgetSliderProps): VNode {
  const gesture = useRef("");
  const [stop, setStop] = useState<number | null>(null);
  const now = store.prices.totals.value.bitsPerWeight;
  const at = stop ?? (offer ? stopOf(offer, wanted ?? now) : STOPS);
  const bits = offer && stop !== null ? bitsAt(offer, stop) : (wanted ?? now);
  const why = whyNot(store);
  const said = `${format.inBits(bits)} a weight`;
  return (
    <div class="tlr-optimize-slider">
      <span class="tlr-optimize-bits">{said}</span>
      <input
        type="range"
        min={0}
        max={STOPS}
        value={at}
        disabled={!offer}
        title={offer ? undefined : why}
        aria-label="Bits a weight"
        aria-valuetext={offer ? said : `${said}; ${why}`}
        onInput={(e) => {
          if (!offer) return;
          const next = Number(e.currentTarget.value);
          if (gesture.current === "") gesture.current = store.edits.begin();
          setStop(next);
          dragged(bitsAt(offer, next));
          const schemes = Array.from(planFor(offer.steps, bitsAt(offer, next)));
          const label = `best plan for ${format.inBits(bitsAt(offer, next))}`;
          store.edits.assign(
            { weights: schemes.map((_, w) => w), schemes, skipped: 0 },
            label,
            gesture.current,
          );
        }}
        onChange={(e) => {
          if (!offer) return;
          find(
            { what: "budget", budget: `${bitsAt(offer, Number(e.currentTarget.value))} bits` },
            gesture.current,
          );
          gesture.current = "";
          setStop(null);
        }}
      />
      <span class="tlr-optimize-ends tlr-muted">
        {offer ? (
          <span>{`${format.inBits(bitsAt(offer, 0))}: smallest`}</span>
        ) : (
          <span
            class={store.optimizer.refusal.value ? "tlr-error" : ""}
            role={store.optimizer.refusal.value ? "alert" : "status"}
          >
            {why}
          </span>
        )}
        <span>{offer ? `${format.inBits(bitsAt(offer, STOPS))}: least error` : ""}</span>
      </span>
    </div>
  );
}

/** What the slider waits for, or why there will be none. */
function whyNot(store: Store): string {
  const { refusal, waiting } = store.optimizer;
  if (refusal.value) return refusal.value;
  if (!waiting.value) return "No slider: called off. Open the menu again.";
  if (store.findsErrors.value) return "Errors of the weights are being found: the slider needs them.";
  return "The kernel is asked what can be reached…";
}

function Presets({ offer, find }: FindProps): VNode {
  const [name, setName] = useState("");
  const preset = offer?.presets.find((each) => each.name === name);
  return (
    <>
      <div class="tlr-optimize-row">
        <select
          class="tlr-select is-button"
          aria-label="Preset"
          value={name}
          disabled={!offer}
          onChange={(e) => setName(e.currentTarget.value)}
        >
          <option value="">Apple's recipes…</option>
          {offer?.presets.map((each) => (
            <option key={each.name} value={each.name}>
              {each.name}
            </option>
          ))}
        </select>
        <button
          type="button"
          class="tlr-button"
          disabled={!preset}
          onClick={() => preset && find({ what: "preset", name: preset.name })}
        >
          Take
        </button>
      </div>
      {preset && (
        <p class="tlr-muted tlr-optimize-says">
          {preset.says}{" "}
          <a href={preset.source} target="_blank" rel="noreferrer">
            source
          </a>
        </p>
      )}
    </>
  );
}

const PATIENCE_MS = 1000;

/** How far it is, and after a second a way to stop waiting. */
function Waiting({ store }: { store: Store }): VNode | null {
  const { optimizer } = store;
  const waiting = optimizer.waiting.value;
  const progress = optimizer.progress.value;
  const [long, setLong] = useState(false);
  useEffect(() => {
    setLong(false);
    if (!waiting) return;
    const timer = setTimeout(() => setLong(true), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, [waiting]);
  if (!waiting || !long) return null;
  return (
    <div class="tlr-optimize-row">
      <span class="tlr-muted tlr-optimize-stage" role="status">
        {progress ? `${progress.stage}…` : "waiting for the kernel…"}
      </span>
      <button
        type="button"
        class="tlr-button"
        title="Stop waiting. What the kernel has begun goes on until it is interrupted."
        onClick={() => optimizer.cancel()}
      >
        Cancel
      </button>
    </div>
  );
}
