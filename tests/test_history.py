from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from talaria_nb.history import MAX_ENTRIES, History

WEIGHTS = 4
OPS = 3
edits = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, WEIGHTS - 1), st.integers(0, 3)),
        st.dictionaries(st.integers(0, OPS - 1), st.booleans()),
        st.sampled_from(["", "drag"]),
    ),
    max_size=12,
)


def start() -> History:
    return History(np.zeros(WEIGHTS, dtype=np.uint16), np.zeros(OPS, dtype=np.bool_))


@given(edits)
def test_undoing_everything_returns_to_the_start_and_redoing_to_the_end(
    steps: list[tuple[dict[int, int], dict[int, bool], str]],
) -> None:
    history = start()
    for changes, activations, gesture in steps:
        history = history.set(
            [*changes], [*changes.values()], ops=[*activations], int8=[*activations.values()], gesture=gesture
        )
    end = history
    for _ in history.entries:
        history = history.undo()
    assert history.columns.tolist() == [0] * WEIGHTS
    assert not history.int8.any()
    for _ in history.entries:
        history = history.redo()
    assert history.columns.tolist() == end.columns.tolist()
    assert history.int8.tolist() == end.int8.tolist()


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


def test_activations_that_come_back_within_a_gesture_leave_no_step() -> None:
    history = start().set([], [], ops=[1], int8=[True], gesture="drag")
    assert history.int8.tolist() == [False, True, False]
    history = history.set([], [], ops=[1], int8=[False], gesture="drag")
    assert not history.entries
    assert not history.int8.any()


def test_an_edit_after_undo_forgets_the_undone() -> None:
    history = start().set([0], [1]).set([0], [2]).undo().set([1], [3])
    assert [entry.weights.tolist() for entry in history.entries] == [[0], [1]]
    assert history.redo() is history


def test_only_the_last_steps_are_kept() -> None:
    history = start()
    for step in range(MAX_ENTRIES + 5):
        history = history.set([0], [1 + step % 2])
    assert len(history.entries) == MAX_ENTRIES == history.cursor
