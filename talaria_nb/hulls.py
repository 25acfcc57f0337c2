"""Convex hulls of error over cost, one for each group of options: the linear relaxation of a choice under one limit.

Sinha and Zoltners, "The Multiple-Choice Knapsack Problem", Operations Research 27(3), 1979: only options on the hull
can be in the relaxed optimum, and taking the hulls' segments in the order of their slopes reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Hull:
    """Lower convex hulls of error over one cost, one hull a group, and their segments in the order of their slopes.

    Attributes
    ----------
    option
        Options on the hull, cheapest first; the last is repeated. int64, shape (stages, groups).
    group, stage
        Of each segment, steepest first: it goes from `option[stage]` to `option[stage + 1]` of the group. int64.
    cost, gain
        What each segment adds to the cost and takes from the error. float64.
    total_cost, total_gain
        Their running sums.
    least_cost, most_error
        Of taking the cheapest option everywhere.
    """

    option: NDArray[np.int64]
    group: NDArray[np.int64]
    stage: NDArray[np.int64]
    cost: NDArray[np.float64]
    gain: NDArray[np.float64]
    total_cost: NDArray[np.float64]
    total_gain: NDArray[np.float64]
    least_cost: float
    most_error: float


def hull(error: NDArray[np.float64], cost: NDArray[np.float64]) -> Hull:
    """Find the hulls; once for a table, whatever the limit. Parameters as in `knapsack.Knapsack`, of one cost."""
    rows = np.arange(len(error))
    cost = np.where(np.isfinite(error), cost, np.inf)
    current = np.where(cost == cost.min(axis=1, keepdims=True), error, np.inf).argmin(axis=1)
    stages = [current]
    while True:
        gain = error[rows, current][:, None] - error
        extra = cost - cost[rows, current][:, None]
        slope = np.divide(gain, extra, out=np.zeros_like(gain), where=(gain > 0) & (extra > 0))
        steepest = slope.argmax(axis=1)
        moves = slope[rows, steepest] > 0
        if not moves.any():
            break
        current = np.where(moves, steepest, current)
        stages.append(current)
    option = np.stack(stages)
    group, stage = np.nonzero((option[1:] != option[:-1]).T)  # of a group, in the order of its stages
    before, after = option[stage, group], option[stage + 1, group]
    extra, gain = cost[group, after] - cost[group, before], error[group, before] - error[group, after]
    order = np.argsort(-gain / extra, kind="stable")
    return Hull(
        option=option,
        group=group[order],
        stage=stage[order],
        cost=extra[order],
        gain=gain[order],
        total_cost=np.cumsum(extra[order]),
        total_gain=np.cumsum(gain[order]),
        least_cost=float(cost[rows, option[0]].sum()),
        most_error=float(error[rows, option[0]].sum()),
    )


class Relaxed(NamedTuple):
    """The optimum of the linear relaxation with one limit: whole segments taken, its error and its dual value."""

    steps: int
    bound: float
    multiplier: float


def relaxed(hull: Hull, limit: float) -> Relaxed | None:
    """Solve the linear relaxation; None if even the cheapest options are over the limit."""
    room = limit - hull.least_cost
    if room < 0:
        return None
    steps = int(np.searchsorted(hull.total_cost, room, side="right"))
    spent = float(hull.total_cost[steps - 1]) if steps else 0.0
    error = hull.most_error - (float(hull.total_gain[steps - 1]) if steps else 0.0)
    if steps == len(hull.cost):
        return Relaxed(steps, error, 0.0)
    multiplier = float(hull.gain[steps] / hull.cost[steps])
    return Relaxed(steps, error - multiplier * (room - spent), multiplier)


def filled(hull: Hull, steps: int, limit: float) -> NDArray[np.int64]:
    """Take the first segments, and then, steepest first, every further one that fits after those of its group."""
    taken = np.zeros(len(hull.cost), dtype=np.bool_)
    taken[:steps] = True
    room = limit - hull.least_cost - (hull.total_cost[steps - 1] if steps else 0.0)
    ends = np.full(hull.option.shape[1], len(hull.option))
    left = np.arange(steps, len(hull.cost))
    while left.size:
        too_much = left[hull.cost[left] > room]
        np.minimum.at(ends, hull.group[too_much], hull.stage[too_much])
        left = left[hull.stage[left] < ends[hull.group[left]]]
        total = np.cumsum(hull.cost[left])
        fitting = int(np.searchsorted(total, room, side="right"))
        if not fitting:
            break
        taken[left[:fitting]] = True
        room -= total[fitting - 1]
        left = left[fitting:]
    stage = np.bincount(hull.group[taken], minlength=hull.option.shape[1])
    return hull.option[stage, np.arange(len(stage))]
