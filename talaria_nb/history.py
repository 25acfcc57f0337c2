"""History: the steps of one exploration, with undo and redo.

The browser folds the same edits in `js/src/history.ts`, so that it stays live while the kernel is busy; both follow
`tests/fixtures/history.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAX_ENTRIES = 100
"""Older steps are forgotten."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One step: some weights changed their scheme.

    Attributes
    ----------
    label
        What to call the step on screen.
    gesture
        Edits of one gesture (a slider drag) are one step; "" never merges.
    weights
        Rows of the changed weights, ascending. int32.
    before, after
        Their columns in the cost table. uint16.
    """

    label: str
    gesture: str
    weights: NDArray[np.int32]
    before: NDArray[np.uint16]
    after: NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The current scheme of every weight and the steps that led there; every edit returns a new history.

    Attributes
    ----------
    columns
        Column of each weight's scheme in the cost table. uint16, shape (weights,).
    entries
        Steps, oldest first.
    cursor
        `entries[:cursor]` are applied, `entries[cursor:]` can be redone.
    """

    columns: NDArray[np.uint16]
    entries: tuple[Entry, ...] = ()
    cursor: int = 0

    def set(self, weights: Sequence[int], columns: Sequence[int], *, label: str = "", gesture: str = "") -> History:
        """Give some weights other schemes; nothing happens if all have them already."""
        merged = dict(zip(weights, columns, strict=True))
        rows = np.array(sorted(merged), dtype=np.int32)
        after = np.array([merged[row] for row in rows.tolist()], dtype=np.uint16)
        before = self.columns[rows]
        changed = before != after
        if not changed.any():
            return self
        entry = Entry(label, gesture, rows[changed], before[changed], after[changed])
        current = self.columns.copy()
        current[entry.weights] = entry.after
        entries = self.entries[: self.cursor]
        if gesture and entries and entries[-1].gesture == gesture:
            entry = _merge(entries[-1], entry)
            entries = entries[:-1]
        if entry.weights.size:
            entries = (*entries, entry)[-MAX_ENTRIES:]
        return History(current, entries, len(entries))

    def undo(self) -> History:
        """Take the last step back, if there is one."""
        if self.cursor == 0:
            return self
        entry = self.entries[self.cursor - 1]
        return replace(self, columns=self._with(entry.weights, entry.before), cursor=self.cursor - 1)

    def redo(self) -> History:
        """Take the next undone step again, if there is one."""
        if self.cursor == len(self.entries):
            return self
        entry = self.entries[self.cursor]
        return replace(self, columns=self._with(entry.weights, entry.after), cursor=self.cursor + 1)

    def _with(self, weights: NDArray[np.int32], columns: NDArray[np.uint16]) -> NDArray[np.uint16]:
        current = self.columns.copy()
        current[weights] = columns
        return current


def _merge(old: Entry, new: Entry) -> Entry:
    """Join two steps of one gesture: oldest before, newest after, unchanged weights dropped."""
    before = dict(zip(new.weights.tolist(), new.before.tolist(), strict=True)) | dict(
        zip(old.weights.tolist(), old.before.tolist(), strict=True)
    )
    after = dict(zip(old.weights.tolist(), old.after.tolist(), strict=True)) | dict(
        zip(new.weights.tolist(), new.after.tolist(), strict=True)
    )
    rows = sorted(row for row in after if before[row] != after[row])
    return Entry(
        new.label,
        new.gesture,
        np.array(rows, dtype=np.int32),
        np.array([before[row] for row in rows], dtype=np.uint16),
        np.array([after[row] for row in rows], dtype=np.uint16),
    )
