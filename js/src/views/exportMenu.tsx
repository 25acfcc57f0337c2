import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { ExportKind } from "../exports";
import * as format from "../format";
import type { Store } from "../store";

interface Item {
  kind: ExportKind;
  title: string;
  hint: string;
}

const GROUPS: readonly (readonly Item[])[] = [
  [
    { kind: "python", title: "Python source", hint: "needs coremltools alone" },
    { kind: "coremltools", title: "coremltools YAML", hint: "for OptimizationConfig.from_yaml" },
    { kind: "plan", title: "Plan", hint: "YAML, to open the plan again" },
  ],
  [
    { kind: "configs", title: "coremltools configs", hint: "as a variable of this notebook" },
    { kind: "torch", title: "torch configs", hint: "as a variable of this notebook" },
  ],
  [{ kind: "package", title: "Compressed package…", hint: "compress, verify and save" }],
];

/** The button with its menu; while the kernel is busy it says so and can be called off. */
export function ExportMenu({ store, uid }: { store: Store; uid: string }): VNode {
  const { exports } = store;
  const [open, setOpen] = useState<"first" | "last" | null>(null);
  const button = useRef<HTMLButtonElement>(null);
  const waiting = exports.waiting.value;
  const progress = exports.progress.value;
  const close = (refocus: boolean): void => {
    setOpen(null);
    if (refocus) button.current?.focus({ preventScroll: true });
  };
  return (
    <div
      class="tlr-menu-anchor"
      onFocusOut={(e) => {
        if (!e.currentTarget.contains(e.relatedTarget as Node | null)) close(false);
      }}
    >
      <span class="tlr-muted tlr-waiting" role="status">
        {waiting && (progress ? "exporting" : "waiting for the kernel…")}
      </span>
      {progress && waiting && (
        <span class="tlr-muted tlr-waiting" aria-hidden="true">
          {format.share(progress.done, 1)}
        </span>
      )}
      {/* One button for both, so that the focus stays on it. */}
      <button
        ref={button}
        key="button"
        type="button"
        class={`tlr-button is-export ${waiting ? "" : "is-primary is-menu"}`}
        aria-haspopup={waiting ? undefined : "menu"}
        aria-expanded={waiting ? undefined : open !== null}
        aria-controls={open ? `${uid}-export` : undefined}
        title={
          waiting
            ? "Stop waiting. What the kernel has begun goes on until it is interrupted."
            : "Take this plan out of the Explorer, or compress the model"
        }
        onClick={() => {
          if (waiting) exports.cancel();
          else setOpen(open ? null : "first");
        }}
        onKeyDown={(e) => {
          if (waiting || (e.key !== "ArrowDown" && e.key !== "ArrowUp")) return;
          e.preventDefault();
          e.stopPropagation();
          setOpen(e.key === "ArrowDown" ? "first" : "last");
        }}
      >
        {waiting ? "Cancel" : "Export"}
      </button>
      {open && (
        <Menu
          id={`${uid}-export`}
          from={open}
          torch={store.program.value.fromTorch}
          close={close}
          choose={(kind) => {
            close(true);
            exports.choose(kind);
          }}
        />
      )}
    </div>
  );
}

interface MenuProps {
  id: string;
  from: "first" | "last";
  torch: boolean;
  close(refocus: boolean): void;
  choose(kind: ExportKind): void;
}

function Menu({ id, from, torch, close, choose }: MenuProps): VNode {
  const menu = useRef<HTMLDivElement>(null);
  const items = (): HTMLElement[] => [...menu.current!.querySelectorAll<HTMLElement>("[role=menuitem]")];
  useEffect(() => {
    items()
      .at(from === "first" ? 0 : -1)
      ?.focus({ preventScroll: true });
  }, [from]);
  const unable = (kind: ExportKind): boolean => kind === "torch" && !torch;

  const key = (e: KeyboardEvent): void => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const all = items();
    const at = all.indexOf(e.target as HTMLElement);
    const go = (to: number): void => all[(to + all.length) % all.length]?.focus({ preventScroll: true });
    if (e.key === "ArrowDown") go(at + 1);
    else if (e.key === "ArrowUp") go(at - 1);
    else if (e.key === "Home") go(0);
    else if (e.key === "End") go(-1);
    else if (e.key === "Escape") close(true);
    else if (e.key === "Enter" || e.key === " ") all[at]?.click();
    else if (e.key === "Tab") {
      close(true);
      return;
    } else if (e.key.length === 1) {
      const letter = e.key.toLowerCase();
      const next = [...all.slice(at + 1), ...all].find((item) =>
        item.textContent?.toLowerCase().startsWith(letter),
      );
      next?.focus({ preventScroll: true });
    } else return;
    e.preventDefault();
    e.stopPropagation();
  };

  return (
    <div
      ref={menu}
      id={id}
      class="tlr-menu"
      role="menu"
      tabIndex={-1}
      aria-label="Export"
      onKeyDown={key}
      // A press in the menu keeps the focus in it: not every browser gives it to what is pressed.
      onPointerDown={(e) => e.preventDefault()}
    >
      {GROUPS.map((group, g) => (
        <div key={g} class="tlr-menu-group" role="presentation">
          {group.map(({ kind, title, hint }) => (
            // biome-ignore lint/a11y/useKeyWithClickEvents: the menu handles the keys of its items
            <div
              key={kind}
              role="menuitem"
              tabIndex={-1}
              class="tlr-menu-item"
              aria-disabled={unable(kind)}
              onClick={() => !unable(kind) && choose(kind)}
              onPointerEnter={(e) => e.currentTarget.focus({ preventScroll: true })}
            >
              <span>{title}</span>
              <span class="tlr-menu-hint">
                {unable(kind) ? "the model did not come from a torch module" : hint}
              </span>
            </div>
          ))}
        </div>
      ))}
    </div>
  );
}
