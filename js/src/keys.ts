/** Every key of the views, in one place: those that work anywhere with what they do, the others as they are told. */

import type { Store } from "./store";

export interface KeyHelp {
  keys: string;
  does: string;
}

interface Shortcut extends KeyHelp {
  /** whether it works while text is typed */
  typing?: boolean;
  matches(e: KeyboardEvent): boolean;
  /** false where there is nothing to do, and the key is left to others */
  run(store: Store, showKeys: () => void): boolean;
}

const command = (e: KeyboardEvent): boolean => e.ctrlKey || e.metaKey;
const letter = (e: KeyboardEvent, wanted: string): boolean => e.key.toLowerCase() === wanted;

/** By which factor a key of a picture zooms: 0 shows all of it, null for any other key. */
export function zoomBy(e: KeyboardEvent, step: number): number | null {
  if (command(e)) return null;
  return { "+": step, "=": step, "-": 1 / step, 0: 0 }[e.key] ?? null;
}

/** What always works, and a key that is then taken from others. */
const always =
  (act: (store: Store, showKeys: () => void) => void): Shortcut["run"] =>
  (store, showKeys) => {
    act(store, showKeys);
    return true;
  };

/** Keys that work anywhere in a view. */
export const ANYWHERE: readonly Shortcut[] = [
  {
    keys: "Ctrl or ⌘ Z",
    does: "undo",
    matches: (e) => command(e) && !e.shiftKey && letter(e, "z"),
    run: always((store) => store.edits.undo()),
  },
  {
    keys: "Shift Ctrl or ⌘ Z, Ctrl Y",
    does: "redo",
    matches: (e) => command(e) && (letter(e, "y") || (e.shiftKey && letter(e, "z"))),
    run: always((store) => store.edits.redo()),
  },
  {
    keys: "Esc",
    does: "select nothing",
    typing: true,
    matches: (e) => e.key === "Escape",
    run: (store) => {
      if (store.selection.peek().ops.length === 0) return false;
      store.select([], "table");
      return true;
    },
  },
  {
    keys: "?",
    does: "show the keys",
    matches: (e) => e.key === "?" && !command(e) && !e.altKey,
    run: always((_, showKeys) => showKeys()),
  },
];

const group = (title: string, does: Record<string, string>): { title: string; keys: readonly KeyHelp[] } => ({
  title,
  keys: Object.entries(does).map(([keys, what]) => ({ keys, does: what })),
});

/** Keys of single parts; each part handles its own. */
export const GROUPS: readonly { title: string; keys: readonly KeyHelp[] }[] = [
  { title: "Anywhere", keys: ANYWHERE },
  group("Table", {
    "↑ ↓ Page\u00a0Up Page\u00a0Down Home End": "go to a row; with Shift select up to it",
    Enter: "select the row",
    Space: "add the row to the selection, or take it out",
    "Ctrl or ⌘ A": "select all rows that are shown",
    "Enter on a heading": "sort; with Shift as a second key",
  }),
  group("Sliders of bits", {
    "← → ↑ ↓": "the next number of bits that is legal",
    "Home End": "the most and the fewest bits",
  }),
  group("Range in a heading", {
    "← → Home End": "move an end of the range",
    Delete: "show all again",
  }),
  group("Graph", {
    "↑ ↓ Home End": "go to a box",
    "→": "open a module",
    "←": "close it, or go to the one around it",
    "Enter Space": "select its ops; Space adds or takes out",
    "+ − 0": "zoom in, out, and to all",
    "Shift ← → ↑ ↓": "move the picture",
  }),
  group("Timeline", {
    "← → Home End": "go to an op",
    "+ − 0": "zoom in, out, and to all",
    "Enter Space": "select the op",
  }),
  group("Edges and menus", {
    "↑ ↓ on an edge": "make a part taller or lower",
    "↓ on a menu": "open it; arrows move in it, Esc closes it",
  }),
];
