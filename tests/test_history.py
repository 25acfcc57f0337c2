from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from talaria_nb.history import MAX_ENTRIES, History

WEIGHTS = 4
edits = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, WEIGHTS - 1), st.integers(0, 3)),
        st.sampled_from(["", "drag"]),
    ),
    max_size=12,
)


def start() -> History:
    return History(np.zeros(WEIGHTS, dtype=np.uint16))


@given(edits)
def test_undoing_everything_returns_to_the_start_and_redoing_to_the_end(
    steps: list[tuple[dict[int, int], str]],
) -> None:
    history = start()
    for changes, gesture in steps:
        history = history.set([*changes], [*changes.values()], gesture=gesture)
    end = history.columns
    for _ in history.entries:
        history = history.undo()
    assert history.columns.tolist() == [0] * WEIGHTS
    for _ in history.entries:
        history = history.redo()
    assert history.columns.tolist() == end.tolist()


def test_a_gesture_is_one_step() -> None:
    history = start()
    for column in (1, 2, 3):
        history = history.set([0, 2], [column, column], gesture="drag")
    assert len(history.entries) == 1
    assert history.undo().columns.tolist() == [0, 0, 0, 0]


def test_a_gesture_that_comes_back_leaves_no_step() -> None:
    history = start().set([1], [2], gesture="drag").set([1], [0], gesture="drag")
    assert not history.entries
    assert history.columns.tolist() == [0] * WEIGHTS


def test_an_edit_after_undo_forgets_the_undone() -> None:
    history = start().set([0], [1]).set([0], [2]).undo().set([1], [3])
    assert [entry.weights.tolist() for entry in history.entries] == [[0], [1]]
    assert history.redo() is history


def test_only_the_last_steps_are_kept() -> None:
    history = start()
    for step in range(MAX_ENTRIES + 5):
        history = history.set([0], [1 + step % 2])
    assert len(history.entries) == MAX_ENTRIES == history.cursor
