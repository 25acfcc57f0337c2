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

/** Keys that work anywhere in a view. */
export const ANYWHERE: readonly Shortcut[] = [
  {
    keys: "Ctrl or ⌘ Z",
    does: "undo",
    matches: (e) => command(e) && !e.shiftKey && letter(e, "z"),
    run: (store) => {
      store.edits.undo();
      return true;
    },
  },
  {
    keys: "Shift Ctrl or ⌘ Z, Ctrl Y",
    does: "redo",
    matches: (e) => command(e) && (letter(e, "y") || (e.shiftKey && letter(e, "z"))),
    run: (store) => {
      store.edits.redo();
      return true;
    },
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
    run: (_, showKeys) => {
      showKeys();
      return true;
    },
  },
];

/** Keys of single parts; each part handles its own. */
export const GROUPS: readonly { title: string; keys: readonly KeyHelp[] }[] = [
  { title: "Anywhere", keys: ANYWHERE },
  {
    title: "Table",
    keys: [
      { keys: "↑ ↓ Page Up Page Down Home End", does: "go to a row; with Shift select up to it" },
      { keys: "Enter", does: "select the row" },
      { keys: "Space", does: "add the row to the selection, or take it out" },
      { keys: "Ctrl or ⌘ A", does: "select all rows that are shown" },
      { keys: "Enter on a heading", does: "sort; with Shift as a second key" },
    ],
  },
  {
    title: "Sliders of bits",
    keys: [
      { keys: "← → ↑ ↓", does: "the next number of bits that is legal" },
      { keys: "Home End", does: "the most and the fewest bits" },
    ],
  },
  {
    title: "Range in a heading",
    keys: [
      { keys: "← → Home End", does: "move an end of the range" },
      { keys: "Delete", does: "show all again" },
    ],
  },
  {
    title: "Graph",
    keys: [
      { keys: "↑ ↓ Home End", does: "go to a box" },
      { keys: "→ +", does: "open a module" },
      { keys: "← −", does: "close it, or go to the one around it" },
      { keys: "Enter Space", does: "select its ops; Space adds or takes out" },
    ],
  },
  {
    title: "Timeline",
    keys: [
      { keys: "← → Home End", does: "go to an op" },
      { keys: "+ − 0", does: "zoom in, out, and to all" },
      { keys: "Enter Space", does: "select the op" },
    ],
  },
  {
    title: "Edges and menus",
    keys: [
      { keys: "↑ ↓ on an edge", does: "make a part taller or lower" },
      { keys: "↓ on a menu", does: "open it; arrows move in it, Esc closes it" },
    ],
  },
];
