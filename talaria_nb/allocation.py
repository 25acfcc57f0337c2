"""Allocation: a plan that was found for a budget, with a bound for how much better any other could be.

And the steps from which plans for any budget are made at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from talaria_nb.budgets import Budget, amount
from talaria_nb.graded import GradedError
from talaria_nb.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from talaria_nb.error_table import ErrorTable, Grade


class Allocation(Plan):
    """A plan that was found for a budget, and what is known about it. It is a `Plan`; edits of it are plain plans.

    Attributes
    ----------
    error
        Sum of the errors of all weights, which is what was minimised.
    composed
        What `loss()` says where it is closer than that sum: the estimate of a sensitivity that knows what weights do to
        the outputs. None where errors are only added up.
    grade, what
        How these errors are known ("weight", "estimated" or "measured"), and what they are, in words.
    bound
        No plan that keeps the budgets and pins has a smaller sum of errors: the optimum of the linear relaxation.
    gap
        (error - bound) / bound, how far at most the plan is from the best one; 0 where both are 0.
    optimal
        Whether HiGHS proved that there is no better plan, by the sum of errors.
    spent
        What the plan takes of each budget, as estimated; in the budget's own unit.
    """

    __slots__ = ("bound", "composed", "error", "grade", "optimal", "spent", "what")

    def __init__(
        self,
        plan: Plan,
        *,
        error: float,
        bound: float,
        optimal: bool,
        spent: Mapping[Budget, float],
        grade: Grade,
        what: str,
        composed: GradedError | None = None,
    ) -> None:
        super().__init__(plan.model)
        self._schemes = plan.scheme_of_weight
        self._activations = plan.int8_ops
        self.error, self.bound, self.optimal = error, bound, optimal
        self.spent, self.grade, self.what = spent, grade, what
        self.composed = composed

    @property
    def gap(self) -> float:
        """How far at most the sum of errors is above the least that any plan has, relatively."""
        return (self.error - self.bound) / self.bound if self.error > self.bound > 0 else 0.0

    @property
    def known_loss(self) -> GradedError | None:
        """What is known of that already: what `tnb.evaluate` measured, or what its errors say of it."""
        return None if self.evaluation is None and self.grade == "weight" else self.loss()

    def loss(self, errors: ErrorTable | None = None) -> GradedError:
        """Tell what the plan costs in accuracy: as `Plan.loss`, or by what it was found with if nothing is given."""
        known = errors is not None or self.evaluation is not None or self.grade == "weight"
        return super().loss(errors) if known else self.composed or GradedError(self.error, self.grade, self.what)

    def __repr__(self) -> str:
        kept = ", ".join(f"{amount(budget.metric, value)} of {budget.text}" for budget, value in self.spent.items())
        budget = f"; {kept}" if kept else ""
        return f"{super().__repr__()[:-1]}; {self._worth}{budget}>"

    @property
    def _worth(self) -> str:
        best = "the best plan" if self.optimal else f"at most {self.gap:.2g} above the best plan"
        if self.composed is not None:
            return f"{self.grade} loss {self.composed.value:.4g}; sum of errors {self.error:.4g}, {best}"
        return f"{self.grade} error {self.error:.4g}, {best}"


@dataclass(frozen=True, slots=True, eq=False)
class BudgetSteps:
    """Steps from the cheapest plan to the one of least error, those that gain most for what they cost first.

    Taking them in this order while they fit into a budget gives a plan close to the best one: the rounded optimum of
    the linear relaxation. A step of a group counts only after the group's steps before it.

    Attributes
    ----------
    columns
        Of the cheapest plan, in the cost table. int64, shape (weights,).
    least, most
        What the cheapest plan takes, and that of least error.
    group
        Of each weight, its group, whose weights have one scheme; -1 for weights without a choice. int64, shape
        (weights,).
    step_group, step_column, step_cost
        Which group goes to which column, and what that adds to the cost; shape (steps,).
    """

    columns: NDArray[np.int64]
    least: float
    most: float
    group: NDArray[np.int64]
    step_group: NDArray[np.int64]
    step_column: NDArray[np.int64]
    step_cost: NDArray[np.float64]
