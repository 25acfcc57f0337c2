"""The multiple-choice knapsack: one option for every group, the least error, and costs within limits.

With one limit the linear relaxation is solved exactly by convex hulls (`hulls.py`); with several, by cutting planes on
its Lagrangian dual. Both give the same thing: multipliers, and a bound that no choice can be below. A choice is then
made by taking hull steps while they fit, and improved by exchanging the options of two groups at a time. `polish` hands
what the bound leaves open to HiGHS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp  # type: ignore[import-untyped]
from scipy.sparse import csr_array  # type: ignore[import-untyped]

from talaria_nb.hulls import Hull, Relaxed, filled, relaxed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CLOSE = 1e-5
"""A choice is not improved further once it is this close to the bound, relatively."""

_CORE = 256
_EXCHANGES = 24
"""Options that exchanges look at, those of least reduced cost, and how many are made: a few milliseconds in all."""


@dataclass(frozen=True, slots=True, eq=False)
class Knapsack:
    """What can be chosen.

    Attributes
    ----------
    error
        Of every option of every group; infinite where there is no such option. float64, shape (groups, options).
    costs
        Of every option; of no meaning where there is no such option. float64, shape (limits, groups, options).
    """

    error: NDArray[np.float64]
    costs: NDArray[np.float64]

    def total(self, choice: NDArray[np.integer]) -> tuple[float, NDArray[np.float64]]:
        """Add up the error and the costs, shape (limits,), of a choice; int64, shape (groups,)."""
        rows = np.arange(len(choice))
        return float(self.error[rows, choice].sum()), self.costs[:, rows, choice].sum(axis=1)


class Solution(NamedTuple):
    """A choice within the limits.

    `choice` is the option of every group, int64, shape (groups,). No choice within the limits has an error below
    `bound`, which is the optimum of the linear relaxation; `multipliers`, shape (limits,), are its dual values, error
    for a unit of cost.
    """

    choice: NDArray[np.int64]
    bound: float
    multipliers: NDArray[np.float64]


def solve(problem: Knapsack, limits: NDArray[np.float64], hulls: Sequence[Hull]) -> Solution | None:
    """Choose an option for every group.

    Parameters
    ----------
    problem
        What can be chosen.
    limits
        Most of each cost. float64, shape (limits,).
    hulls
        `hull` of each cost.

    Returns
    -------
    Solution or None
        None if nothing was found within the limits; with one limit, then there is nothing.
    """
    alone = [relaxed(each, limit) for each, limit in zip(hulls, limits.tolist(), strict=True)]
    found = [each for each in alone if each is not None]
    if len(found) < len(alone):
        return None
    binding = int(np.argmax([each.bound for each in found]))
    at = found[binding]
    choice = filled(hulls[binding], at.steps, limits[binding])
    multipliers = np.zeros(len(limits))
    multipliers[binding] = at.multiplier
    bound = at.bound
    if (problem.total(choice)[1] > limits).any():  # several limits bind at once
        dual = _dual(problem, limits, found)
        if dual is None:
            return None
        multipliers, bound = dual
        within = _repaired(problem, limits, multipliers)
        within = _any_choice(problem, limits) if within is None else within
        if within is None:
            return None
        choice = within
    return Solution(improved(problem, choice, limits, multipliers, bound), bound, multipliers)


def improved(
    problem: Knapsack,
    choice: NDArray[np.int64],
    limits: NDArray[np.float64],
    multipliers: NDArray[np.float64],
    bound: float,
) -> NDArray[np.int64]:
    """Exchange the options of one group or of two, as long as that lowers the error within the limits.

    What has a reduced cost above the gap to the bound cannot be in a better choice and is not looked at.
    """
    error, costs = problem.total(choice)
    if _is_close(error, bound):
        return choice
    choice = choice.copy()
    core, option, _ = _core(problem, multipliers, error - bound, _CORE)
    same = core[:, None] == core
    for _ in range(_EXCHANGES):
        now = choice[core]
        gain = problem.error[core, now] - problem.error[core, option]
        extra = problem.costs[:, core, option] - problem.costs[:, core, now]
        room = limits - costs
        both = gain[:, None] + gain
        allowed = (extra[:, :, None] + extra[:, None, :] <= room[:, None, None]).all(axis=0)
        both[~allowed | same] = -np.inf
        single = np.where((extra <= room[:, None]).all(axis=0), gain, -np.inf)
        np.fill_diagonal(both, single)  # one exchange by itself
        first, second = np.unravel_index(both.argmax(), both.shape)
        if both[first, second] <= 1e-12 * abs(error):
            break
        for at in {int(first), int(second)}:
            choice[core[at]] = option[at]
        error, costs = problem.total(choice)
        if _is_close(error, bound):
            break
    return choice


def _is_close(error: float, bound: float) -> bool:
    return error - bound <= CLOSE * abs(bound)


def _core(
    problem: Knapsack, multipliers: NDArray[np.float64], gap: float, most: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return groups, options and reduced costs within the gap; the least ones if there are more than `most`."""
    price = problem.error + np.tensordot(multipliers, problem.costs, axes=1)
    reduced = price - price.min(axis=1, keepdims=True)
    groups, options = np.nonzero(reduced <= gap * (1 + 1e-9))
    if most is not None and len(groups) > most:
        least = np.argpartition(reduced[groups, options], most)[:most]
        groups, options = groups[least], options[least]
    return groups, options, reduced[groups, options]


_CUTS = 80
_DUAL_CLOSE = 1e-7
_STEEPEST = 1e7
"""Largest multiplier looked at, in units of all error over all cost."""


def _dual(
    problem: Knapsack, limits: NDArray[np.float64], alone: Sequence[Relaxed]
) -> tuple[NDArray[np.float64], float] | None:
    """Maximise the Lagrangian dual by cutting planes: multipliers and bound; None if it has no bound (infeasible)."""
    exists = np.isfinite(problem.error)
    highest = np.where(exists, problem.error, -np.inf).max(axis=1).sum()
    lowest = problem.error.min(axis=1).sum()
    span = max(float(highest - lowest), np.finfo(np.float64).tiny)
    most, least = (
        np.where(exists, problem.costs, -np.inf).max(axis=2),
        np.where(exists, problem.costs, np.inf).min(axis=2),
    )
    unit = np.maximum((most - least).sum(axis=1), np.finfo(np.float64).tiny)

    def cut(multipliers: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        choice = (problem.error + np.tensordot(multipliers, problem.costs, axes=1)).argmin(axis=1)
        error, costs = problem.total(choice)
        return error, costs - limits

    best, bound = np.zeros(len(limits)), -np.inf
    rows: list[list[float]] = []
    sides: list[float] = []
    tried = [np.eye(len(limits))[at] * each.multiplier for at, each in enumerate(alone)]
    for step in range(_CUTS):
        ceiling, multipliers = (np.inf, tried[step]) if step < len(tried) else _master(rows, sides)
        if step >= len(tried):
            multipliers = multipliers * span / unit
        error, over = cut(multipliers)
        value = error + float(multipliers @ over)
        if value > bound:
            best, bound = multipliers, value
        if bound > highest + 1e-9 * span:
            return None
        if ceiling - (bound - lowest) / span <= _DUAL_CLOSE:
            break
        rows.append([1.0, *(-over / unit)])
        sides.append((error - lowest) / span)
    return best, bound


def _master(rows: list[list[float]], sides: list[float]) -> tuple[float, NDArray[np.float64]]:
    """Maximise what the cuts so far allow, and say where."""
    count = len(rows[0]) - 1
    found = milp(  # without integers; linprog takes twice as long to ask the same of HiGHS
        [-1.0, *([0.0] * count)],
        constraints=LinearConstraint(rows, -np.inf, sides),
        bounds=Bounds([-np.inf, *([0.0] * count)], [np.inf, *([_STEEPEST] * count)]),
    )
    return float(found.x[0]), found.x[1:]


def _repaired(
    problem: Knapsack, limits: NDArray[np.float64], multipliers: NDArray[np.float64]
) -> NDArray[np.int64] | None:
    """Start from what the multipliers choose; come within the limits, then use what room is left.

    Each step is the one that raises the reduced cost least, for what it takes off the excess or off the error.
    """
    exists = np.isfinite(problem.error)
    price = problem.error + np.tensordot(multipliers, problem.costs, axes=1)
    choice = price.argmin(axis=1)
    rows = np.arange(len(choice))
    unit = np.maximum(np.abs(limits), np.finfo(np.float64).tiny)[:, None, None]
    for _ in range(_STEPS * len(choice)):
        over = problem.total(choice)[1] - limits
        extra = problem.costs - problem.costs[:, rows, choice][:, :, None]
        if (over > 0).any():
            excess = over[:, None, None]
            useful = ((np.maximum(excess, 0) - np.maximum(excess + extra, 0)) / unit).sum(axis=0)
            allowed = exists
        else:
            useful = problem.error[rows, choice][:, None] - problem.error
            allowed = exists & (extra <= -over[:, None, None]).all(axis=0)
        allowed = allowed & (useful > 1e-12 * np.abs(useful[allowed]).max(initial=0))
        if not allowed.any():
            break
        raised = price - price[rows, choice][:, None]
        rate = np.divide(raised, useful, out=np.full_like(raised, np.inf), where=allowed)
        group, option = np.unravel_index(rate.argmin(), rate.shape)
        choice[group] = option
    return choice if (problem.total(choice)[1] <= limits).all() else None


_STEPS = 4
"""Most steps of a repair for each group."""


def polish(
    problem: Knapsack, start: Solution, limits: NDArray[np.float64], *, seconds: float
) -> tuple[NDArray[np.int64], bool]:
    """Let HiGHS look for something better among all that the bound leaves open.

    Parameters
    ----------
    problem, limits
        As in `solve`.
    start
        What `solve` found.
    seconds
        Most time that it may take.

    Returns
    -------
    choice
        Never worse than the start's.
    proven
        Whether no better one exists.
    """
    error, costs = problem.total(start.choice)
    gap = error - start.bound
    group, option, reduced = _core(problem, start.multipliers, gap)
    open_groups = np.flatnonzero(np.bincount(group, minlength=len(problem.error)) > 1)
    kept = np.isin(group, open_groups)
    group, option = group[kept], option[kept]
    if not group.size or gap <= 0:
        return start.choice, True
    extra = problem.costs[:, group, option] - problem.costs[:, group, start.choice[group]]
    room = limits - costs
    proven_if_kept = True
    for _ in range(_POLISHES):
        places = np.searchsorted(open_groups, group)
        chosen, proven = _highs(extra, room, places, reduced[kept] / gap, start.multipliers / gap, seconds)
        if not chosen.size:
            break
        choice = start.choice.copy()
        choice[group[chosen]] = option[chosen]
        polished, polished_costs = problem.total(choice)
        if (polished_costs <= limits).all():
            return (choice, proven and proven_if_kept) if polished <= error else (start.choice, False)
        room = room - 2 * np.maximum(polished_costs - limits, 0)  # HiGHS keeps limits within a tolerance
        proven_if_kept = False
    return start.choice, False


_POLISHES = 3


def _any_choice(problem: Knapsack, limits: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Let HiGHS look for a choice within the limits at all."""
    group, option = np.nonzero(np.isfinite(problem.error))
    cheapest = problem.costs.sum(axis=0, where=np.isfinite(problem.error)).argmin(axis=1)
    error = problem.error[group, option]
    chosen, _ = _highs(
        problem.costs[:, group, option] - problem.costs[:, group, cheapest[group]],
        limits - problem.total(cheapest)[1],
        group,
        error / max(float(error.max()), np.finfo(np.float64).tiny),
        np.zeros(len(limits)),
        _SECONDS,
    )
    if not chosen.size:
        return None
    choice = np.empty(len(problem.error), dtype=np.int64)
    choice[group[chosen]] = option[chosen]
    return choice if (problem.total(choice)[1] <= limits).all() else None


_SECONDS = 2.0


def _highs(
    extra: NDArray[np.float64],
    room: NDArray[np.float64],
    group: NDArray[np.int64],
    price: NDArray[np.float64],
    multipliers: NDArray[np.float64],
    seconds: float,
) -> tuple[NDArray[np.int64], bool]:
    """Choose one option of each group: least price, and the room that is left at its multiplier; where, and if proven.

    An error above the bound is reduced costs and room left at its multiplier, so that all numbers here are small.
    """
    largest = np.abs(extra).max(axis=1)
    unit = np.where(largest > 0, largest, np.maximum(np.abs(room), 1.0)) / _UNITS
    count, limits = len(group), len(room)
    one_each = csr_array((np.ones(count), (group, np.arange(count))))
    one_each.resize((int(group.max()) + 1, count + limits))
    kept = room / unit
    found = milp(
        np.concatenate([price, multipliers * unit]),
        integrality=np.concatenate([np.ones(count), np.zeros(limits)]),
        bounds=Bounds(0, np.concatenate([np.ones(count), np.full(limits, np.inf)])),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(np.hstack([extra / unit[:, None], np.eye(limits)]), kept, kept),
        ],
        options={"time_limit": seconds},
    )
    if found.x is None:
        return np.zeros(0, dtype=np.int64), False
    return np.flatnonzero(found.x[:count] > 0.5), found.status == 0


_UNITS = 1e4
"""The largest exchange in the units that HiGHS sees, where it takes limits to be kept within 1e-6."""
