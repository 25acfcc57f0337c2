"""Descent: a choice of options made better one group at a time, by a score that is no sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Score = tuple[float, ...]

EVALUATIONS = 2000
"""Most scores that are looked at: a second or two for large models."""


def descend(
    choice: NDArray[np.int64], possible: NDArray[np.bool_], score: Callable[[NDArray[np.int64]], Score]
) -> tuple[NDArray[np.int64], Score]:
    """Take every change of one group that lowers the score, until there is none.

    Parameters
    ----------
    choice
        Where to begin: an option of each group. int64, shape (groups,).
    possible
        The options that there are. bool, shape (groups, options).
    score
        What to make small; scores are compared as tuples.

    Returns
    -------
    choice, score
        What was reached within `EVALUATIONS`.
    """
    best, lowest, left = choice.copy(), score(choice), EVALUATIONS
    better = True
    while better and left > 0:
        better = False
        for group, option in np.argwhere(possible).tolist():
            if option == best[group] or left <= 0:
                continue
            left -= 1
            tried = best.copy()
            tried[group] = option
            reached = score(tried)
            if reached < lowest:
                best, lowest, better = tried, reached, True
    return best, lowest
