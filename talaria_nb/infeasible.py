"""Budgets that no plan keeps: the least that can be reached, and what is to blame for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.additive import additive, cost
from talaria_nb.budgets import at_least
from talaria_nb.choices import named
from talaria_nb.descent import descend
from talaria_nb.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from talaria_nb.budgets import Budget, Metric
    from talaria_nb.choices import Choices, Pin, Where
    from talaria_nb.costs import CostTable


class InfeasibleError(BudgetError):
    """Budgets that no plan keeps.

    Parameters
    ----------
    fact
        What cannot be kept, and what can, in a sentence.
    remedy
        What to do about it in Python.
    pinned
        Whether more could be reached with fewer pins.
    """

    def __init__(self, fact: str, remedy: str, *, pinned: bool = False) -> None:
        super().__init__(f"{fact} {remedy}")
        self.fact, self.pinned = fact, pinned


def infeasible(
    table: CostTable,
    wanted: Mapping[Budget, NDArray[np.bool_]],
    given: Choices,
    without: Mapping[str, Callable[[], Choices]],
    int8: NDArray[np.bool_] | None = None,
) -> InfeasibleError:
    """Write the error for budgets that cannot be kept.

    Parameters
    ----------
    table
        The prices.
    wanted
        The budgets, and which weights each counts; bool, shape (weights,).
    given
        What weights may be.
    without
        What else they might be, by the name of the pin that then is left out.
    int8
        As in `estimate.price`.
    """
    least = {budget: least_cost(table, budget, given, counted, int8) for budget, counted in wanted.items()}
    for budget, reached in least.items():
        if reached > budget.most:
            freed = {
                name: least_cost(table, budget, freely(), wanted[budget], int8) for name, freely in without.items()
            }
            blamed = {name: value for name, value in freed.items() if value < reached}
            return InfeasibleError(
                f"No plan keeps {budget.text}: the least that can be reached is {at_least(budget.metric, reached)}.",
                _blame(budget, blamed) if blamed else "Raise the budget, or offer smaller schemes (schemes=…).",
                pinned=bool(blamed),
            )
    together = " and ".join(budget.text for budget in wanted)
    reachable = ", ".join(at_least(budget.metric, reached) for budget, reached in least.items())
    return InfeasibleError(
        f"No plan was found that keeps {together} at once. Each can be kept alone: the least are {reachable}.",
        "Raise one of them.",
    )


def _blame(budget: Budget, freed: Mapping[str, float]) -> str:
    ordered = sorted(freed.items(), key=lambda item: item[1])
    causes = "; ".join(f"without {name} it is {at_least(budget.metric, value)}" for name, value in ordered)
    return f"The pins are to blame: {causes}."


def choices_that_bind(
    pins: Mapping[Where, Pin],
    alike: Sequence[str | Sequence[str]],
    choices: Callable[[Mapping[Where, Pin], Sequence[str | Sequence[str]]], Choices],
) -> dict[str, Callable[[], Choices]]:
    """Return, by name, what each pin leaves out of the choices: each is a call of `choices` without that pin."""
    found: dict[str, Callable[[], Choices]] = {}
    for where in pins:
        others = {other: pin for other, pin in pins.items() if other != where}
        found[named(where)] = lambda others=others: choices(others, alike)  # type: ignore[misc]
    if alike:
        found["what is alike"] = lambda: choices(pins, ())
    return found


def least_cost(
    table: CostTable,
    budget: Budget,
    given: Choices,
    counted: NDArray[np.bool_],
    int8: NDArray[np.bool_] | None = None,
) -> float:
    """Return the least of something that a plan really takes; where costs are no sums, the least that is found.

    Parameters
    ----------
    table
        The prices.
    budget
        What of.
    given
        What weights may be.
    counted, int8
        As in `additive.cost`.
    """
    groups = int(given.group.max(initial=-1)) + 1
    possible = np.ones((groups, len(table.schemes)), dtype=np.bool_)
    np.logical_and.at(possible, given.group, given.allowed)
    terms = additive(table, budget.metric, given.allowed, counted, given.allowed.argmax(axis=1), int8)
    summed = np.zeros(possible.shape)
    np.add.at(summed, given.group, terms.by_weight)

    def score(choice: NDArray[np.int64]) -> tuple[float]:
        return (cost(table, budget.metric, choice[given.group], counted, int8),)

    cheapest = np.where(possible, summed, np.inf).argmin(axis=1)
    coupled = is_coupled(table, budget.metric, given)
    return (descend(cheapest, possible, score)[1] if coupled else score(cheapest))[0]


def is_coupled(table: CostTable, metric: Metric, given: Choices) -> bool:
    """Tell whether a cost is no sum: weights share tensors, or an op reads several weights with a choice."""
    if metric in ("latency", "energy"):
        ops = np.repeat(np.arange(len(table.launch_ms)), np.diff(table.op_weights_start))
        chooses = given.allowed.sum(axis=1) > 1
        return bool((np.bincount(ops, weights=chooses[table.op_weights]) > 1).any())
    return metric == "size" and bool(table.shared_file_bytes.size)
