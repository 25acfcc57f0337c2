import type { ComponentChildren, VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

interface PopoverProps {
  /** what the button says, and what it and the panel are called */
  text: string;
  label: string;
  title?: string;
  /** whether what is inside is in force */
  on?: boolean;
  align?: "left" | "right";
  children(close: () => void): ComponentChildren;
}

/** A button that opens a panel of controls; Escape and a click elsewhere close it, arrow keys go through its boxes. */
export function Popover({ text, label, title, on, align = "left", children }: PopoverProps): VNode {
  const [open, setOpen] = useState(false);
  const anchor = useRef<HTMLDivElement>(null);
  const panel = useRef<HTMLDivElement>(null);
  const close = (): void => {
    setOpen(false);
    anchor.current?.querySelector("button")?.focus({ preventScroll: true });
  };
  useEffect(() => {
    if (open) stops(panel.current!)[0]?.focus({ preventScroll: true });
  }, [open]);
  useEffect(() => {
    if (!open) return;
    const outside = (e: Event): void => {
      if (!e.composedPath().includes(anchor.current!)) setOpen(false);
    };
    document.addEventListener("pointerdown", outside, true);
    return () => document.removeEventListener("pointerdown", outside, true);
  }, [open]);
  const key = (e: KeyboardEvent): void => {
    if (e.key === "Escape") close();
    else if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      const all = stops(panel.current!);
      const at = all.indexOf(e.target as HTMLElement);
      all[(at + (e.key === "ArrowDown" ? 1 : all.length - 1)) % all.length]?.focus();
    } else return;
    e.preventDefault();
    e.stopPropagation();
  };
  return (
    <div
      ref={anchor}
      class="tlr-menu-anchor tlr-popover-anchor"
      onFocusOut={(e) => {
        const to = e.relatedTarget as Node | null;
        if (to && !e.currentTarget.contains(to)) setOpen(false);
      }}
    >
      <button
        type="button"
        class={`tlr-button is-menu${on ? " is-on" : ""}`}
        aria-haspopup="dialog"
        aria-expanded={open}
        aria-label={label}
        title={title}
        onClick={() => setOpen(!open)}
        onKeyDown={(e) => {
          if (e.key !== "ArrowDown" || open) return;
          e.preventDefault();
          e.stopPropagation();
          setOpen(true);
        }}
      >
        <span class="tlr-ellipsis">{text}</span>
      </button>
      {open && (
        <div
          ref={panel}
          class={`tlr-menu tlr-popover is-${align}`}
          role="dialog"
          aria-label={label}
          // A press on the words beside a box takes the focus here, and not out of the panel, which would close it.
          tabIndex={-1}
          onKeyDown={key}
        >
          {children(close)}
        </div>
      )}
    </div>
  );
}

const stops = (panel: HTMLElement): HTMLElement[] => [
  ...panel.querySelectorAll<HTMLElement>("input:not(:disabled), button:not(:disabled)"),
];

interface CheckProps {
  label: string;
  checked: boolean;
  hint?: string;
  title?: string;
  disabled?: boolean;
  /** levels that it is moved to the right */
  depth?: number;
  toggle(): void;
}

export function Check({ label, checked, hint, title, disabled, depth = 0, toggle }: CheckProps): VNode {
  return (
    <label
      class="tlr-check"
      title={title}
      style={depth > 0 ? { paddingLeft: `${8 + depth * 12}px` } : undefined}
    >
      <input type="checkbox" checked={checked} disabled={disabled} onChange={toggle} />
      <bdi class="tlr-ellipsis">{label}</bdi>
      {hint && <span class="tlr-menu-hint">{hint}</span>}
    </label>
  );
}
