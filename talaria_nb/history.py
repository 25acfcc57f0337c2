"""History: the steps of one exploration, with undo and redo.

The browser folds the same edits in `js/src/history.ts`, so that it stays live while the kernel is busy; both follow
`tests/fixtures/history.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from talaria_nb.estimate import price

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from talaria_nb.costs import CostTable

MAX_ENTRIES = 100
"""Older steps are forgotten."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One step: some weights changed their scheme, some ops what they read.

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
    toggled
        Rows of the ops whose activations went from float to int8 or back, ascending. int32.
    """

    label: str
    gesture: str
    weights: NDArray[np.int32]
    before: NDArray[np.uint16]
    after: NDArray[np.uint16]
    toggled: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The current plan, as columns, and the steps that led there; every edit returns a new history.

    Attributes
    ----------
    columns
        Column of each weight's scheme in the cost table. uint16, shape (weights,).
    int8
        Whether each op reads int8 activations. bool, shape (ops,).
    entries
        Steps, oldest first.
    cursor
        `entries[:cursor]` are applied, `entries[cursor:]` can be redone.
    """

    columns: NDArray[np.uint16]
    int8: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    entries: tuple[Entry, ...] = ()
    cursor: int = 0

    def set(
        self,
        weights: Sequence[int],
        columns: Sequence[int],
        *,
        ops: Sequence[int] = (),
        int8: Sequence[bool] = (),
        label: str = "",
        gesture: str = "",
    ) -> History:
        """Give some weights other schemes, and some ops other activations; nothing happens if all have them already."""
        merged = dict(zip(weights, columns, strict=True))
        rows = np.array(sorted(merged), dtype=np.int32)
        after = np.array([merged[row] for row in rows.tolist()], dtype=np.uint16)
        before = self.columns[rows]
        changed = before != after
        wanted = dict(zip(ops, int8, strict=True))
        toggled = np.array([op for op in sorted(wanted) if self.int8[op] != wanted[op]], dtype=np.int32)
        if not changed.any() and not toggled.size:
            return self
        entry = Entry(label, gesture, rows[changed], before[changed], after[changed], toggled)
        current = self._with(entry.weights, entry.after, toggled)
        entries = self.entries[: self.cursor]
        if gesture and entries and entries[-1].gesture == gesture:
            entry = _merge(entries[-1], entry)
            entries = entries[:-1]
        if entry.weights.size or entry.toggled.size:
            entries = (*entries, entry)[-MAX_ENTRIES:]
        return replace(current, entries=entries, cursor=len(entries))

    def undo(self) -> History:
        """Take the last step back, if there is one."""
        if self.cursor == 0:
            return self
        entry = self.entries[self.cursor - 1]
        return replace(self._with(entry.weights, entry.before, entry.toggled), cursor=self.cursor - 1)

    def redo(self) -> History:
        """Take the next undone step again, if there is one."""
        if self.cursor == len(self.entries):
            return self
        entry = self.entries[self.cursor]
        return replace(self._with(entry.weights, entry.after, entry.toggled), cursor=self.cursor + 1)

    def at(self, cursor: int) -> History:
        """Undo or redo until so many steps are applied; as near as there are steps."""
        state = self
        while state.cursor > max(cursor, 0):
            state = state.undo()
        while state.cursor < min(cursor, len(self.entries)):
            state = state.redo()
        return state

    def _with(self, weights: NDArray[np.int32], columns: NDArray[np.uint16], toggled: NDArray[np.int32]) -> History:
        current, int8 = self.columns.copy(), self.int8.copy()
        current[weights] = columns
        int8[toggled] = ~int8[toggled]
        return replace(self, columns=current, int8=int8)


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
        np.setxor1d(old.toggled, new.toggled),
    )


def history_frame(history: History, table: CostTable) -> pd.DataFrame:
    """Price the plan before the first step and after each: label, size_bytes, latency_ms, bits_per_weight."""
    states = [history.at(0)]
    for cursor in range(1, len(history.entries) + 1):
        states.append(states[-1].at(cursor))
    estimates = [price(table, state.columns, state.int8) for state in states]
    return pd.DataFrame(
        {
            "label": ["start", *(entry.label for entry in history.entries)],
            "size_bytes": [estimate.size_bytes for estimate in estimates],
            "latency_ms": [estimate.latency_ms for estimate in estimates],
            "bits_per_weight": [estimate.bits_per_weight for estimate in estimates],
        },
        index=pd.RangeIndex(len(states), name="step"),
    )
