"""Search: what is left to choose in a model, as groups of weights with options, and the choice of least error.

The choice is a multiple-choice knapsack (`knapsack.py`) over sums (`additive.py`). What comes out is checked by the
estimate itself; where the sums were below it, it is solved again with so much less room, until every budget is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from talaria_nb.additive import additive, cost
from talaria_nb.allocation import BudgetSteps
from talaria_nb.descent import descend
from talaria_nb.hulls import Hull, hull
from talaria_nb.infeasible import is_coupled
from talaria_nb.knapsack import Knapsack, Solution, polish, solve
from talaria_nb.matching import weight_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from talaria_nb.budgets import Budget, Metric
    from talaria_nb.choices import Choices
    from talaria_nb.costs import CostTable
    from talaria_nb.load import Model

_POLISH_SECONDS = 1.0
"""HiGHS takes so long at most."""

_TRIES = 8
_ROUNDING = 1e-12
"""So much more, relatively, is given to sums that are only compared with estimates later: the order of sums differs."""


@dataclass(frozen=True, slots=True, eq=False)
class _Costs:
    """One cost over groups: what is the same in every plan, a term for each group and option, and its hulls."""

    fixed: float
    by_group: NDArray[np.float64]
    hull: Hull


class Found(NamedTuple):
    """Options of the groups with a choice, their error and real costs, a bound, and whether nothing is better."""

    choice: NDArray[np.int64]
    error: float
    costs: NDArray[np.float64]
    bound: float
    optimal: bool


class Search:
    """What can be chosen in a model; what does not depend on a budget is prepared once.

    Parameters
    ----------
    model, table
        The model and its prices.
    choices
        What each weight may be, and which are alike.
    error
        Of every weight under every column. float64, shape (weights, schemes).
    int8
        As in `estimate.price`.

    Attributes
    ----------
    columns
        Of the options, in the cost table; one at least, if nobody's where there are no weights.
    member
        The group of each weight; -1 without a choice. int64, shape (weights,).
    fixed_error
        Of the weights without a choice.
    uniform, uniform_error
        For each option, the choice that has it wherever it is allowed, and is as loaded elsewhere if that is allowed;
        int64, shape (groups, options), and its error, shape (options,).
    """

    def __init__(
        self,
        model: Model,
        table: CostTable,
        choices: Choices,
        error: NDArray[np.float64],
        int8: NDArray[np.bool_] | None,
    ) -> None:
        self._model, self._table, self._choices, self._int8 = model, table, choices, int8
        allowed = choices.allowed
        start = table.start.astype(np.int64)
        rows = np.arange(len(start))
        self._first = np.where(allowed[rows, start], start, allowed.argmax(axis=1))
        offered = allowed.any(axis=0)  # the others are nobody's
        self.columns = np.flatnonzero(offered) if len(start) else np.zeros(1, dtype=np.int64)
        self._groups = np.flatnonzero(np.bincount(choices.group, weights=allowed.sum(axis=1) > 1) > 0)
        place = np.full(len(start), -1)
        place[self._groups] = np.arange(len(self._groups))
        self.member = place[choices.group]
        self._possible = np.zeros((len(self._groups), len(self.columns)), dtype=np.bool_)
        chosen = self.member >= 0
        self._possible[self.member[chosen]] = allowed[chosen][:, self.columns]
        self._error = np.where(self._possible, self._by_group(np.nan_to_num(error)), np.inf)
        self.fixed_error = float(error[rows, self._first][~chosen].sum())
        place = np.searchsorted(self.columns, self._first[self._one_member])
        self.uniform = np.where(self._possible, np.arange(len(self.columns)), place[:, None])
        self.uniform_error = self._error[np.arange(len(place))[:, None], self.uniform].sum(axis=0)
        self._costs: dict[tuple[Metric, tuple[str, ...]], _Costs] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def find(self, wanted: tuple[Budget, ...], *, polished: bool) -> Found | None:
        """Find the choice of least error within budgets; None if there is none.

        Parameters
        ----------
        wanted
            The budgets.
        polished
            Whether HiGHS looks for something better, and proves that there is nothing.
        """
        if not wanted:
            return self.least_error()
        found = self._solved(wanted, [self._costs_of(budget, self._first) for budget in wanted], polished=polished)
        timed = [budget.metric for budget in wanted if budget.metric in ("latency", "energy")]
        if found is not None and any(is_coupled(self._table, metric, self._choices) for metric in timed):
            at = self.columns_of(found.choice)  # decides better which weights those ops wait for
            again = [self._costs_of(budget, at, keep=False) for budget in wanted]
            second = self._solved(wanted, again, polished=polished)
            if second is not None:
                best = min((found, second), key=lambda each: each.error)
                found = best._replace(bound=max(found.bound, second.bound), optimal=found.optimal or second.optimal)
        return found

    def least_error(self) -> Found:
        """Return the choice of least error, without any budget."""
        choice = self._error.argmin(axis=1)
        error = float(self._error.min(axis=1).sum()) if choice.size else 0.0
        return Found(choice, error, np.zeros(0), error, optimal=True)

    def steps(self, budget: Budget) -> BudgetSteps:
        """Return the steps from which a plan for any budget is made; of this one only its metric counts."""
        costs = self._costs_of(budget, self._first)
        found = costs.hull
        least = costs.fixed + found.least_cost
        return BudgetSteps(
            columns=self.columns_of(found.option[0]),
            least=least,
            most=least + float(found.cost.sum()),
            group=self.member,
            step_group=found.group,
            step_column=self.columns[found.option[found.stage + 1, found.group]],
            step_cost=found.cost,
        )

    def columns_of(self, choice: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the columns of all weights in the cost table. int64, shape (weights,)."""
        columns = self._first.copy()
        chosen = self.member >= 0
        columns[chosen] = self.columns[choice][self.member[chosen]]
        return columns

    def spent(self, wanted: tuple[Budget, ...], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return what a plan takes of each budget, as estimated. Columns as `columns_of` returns them."""
        return np.array([cost(self._table, each.metric, columns, self.counted(each), self._int8) for each in wanted])

    def keeps(self, wanted: tuple[Budget, ...], columns: NDArray[np.integer]) -> bool:
        """Tell whether a plan keeps all budgets."""
        spent = self.spent(wanted, columns).tolist()
        return all(most <= budget.most for most, budget in zip(spent, wanted, strict=True))

    def _solved(self, wanted: tuple[Budget, ...], costs: Sequence[_Costs], *, polished: bool) -> Found | None:
        """Solve with less and less room until the estimates keep the budgets, then polish."""
        problem = Knapsack(self._error, np.stack([each.by_group for each in costs]))
        hulls = [each.hull for each in costs]
        limits = np.array([budget.most for budget in wanted])
        fixed = np.array([each.fixed for each in costs])
        room = limits * (1 + _ROUNDING) - fixed
        reserve = np.zeros(len(wanted))
        first: Solution | None = None
        for _ in range(_TRIES):
            solution = solve(problem, room - reserve, hulls)
            if solution is None:
                break
            first = first or solution
            spent = self.spent(wanted, self.columns_of(solution.choice))
            if (spent <= limits).all():
                choice = self._not_worse_than_uniform(problem, solution.choice, wanted, room)
                return self._polished(problem, first._replace(choice=choice), wanted, reserve, room, polished=polished)
            reserve = np.maximum(reserve, spent - fixed - problem.total(solution.choice)[1])
        if first is None:
            return None

        def score(choice: NDArray[np.int64]) -> tuple[float, float]:
            over = np.maximum(self.spent(wanted, self.columns_of(choice)) / limits - 1, 0).sum()
            return float(over), problem.total(choice)[0]

        starts = (first.choice, *map(self._cheapest, costs))
        found, (over, error) = min(
            (descend(start, self._possible, score) for start in starts), key=lambda each: each[1]
        )
        if over > 0:
            return None
        return Found(found, error, self.spent(wanted, self.columns_of(found)), max(first.bound, 0.0), optimal=False)

    def _polished(
        self,
        problem: Knapsack,
        start: Solution,
        wanted: tuple[Budget, ...],
        reserve: NDArray[np.float64],
        room: NDArray[np.float64],
        *,
        polished: bool,
    ) -> Found | None:
        """Let HiGHS improve a choice: by the budgets as they are, and if that is too near, with some room left."""
        choice, optimal = start.choice, problem.total(start.choice)[0] <= start.bound
        if polished and not optimal:
            for held in (np.zeros_like(reserve), reserve) if reserve.any() else (reserve,):
                better, proven = polish(problem, start, room - held, seconds=_POLISH_SECONDS)
                if self.keeps(wanted, self.columns_of(better)):
                    choice, optimal = better, proven and not held.any()
                    break
        error = problem.total(choice)[0]
        return Found(
            choice, error, self.spent(wanted, self.columns_of(choice)), min(max(start.bound, 0.0), error), optimal
        )

    def _not_worse_than_uniform(
        self, problem: Knapsack, choice: NDArray[np.int64], wanted: tuple[Budget, ...], room: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Return the best uniform choice within the limits if it is better, which takes very uneven weights."""
        error = problem.total(choice)[0]
        for option in np.argsort(self.uniform_error).tolist():
            if self.uniform_error[option] >= error:
                break
            uniform: NDArray[np.int64] = self.uniform[:, option]
            if (problem.total(uniform)[1] <= room).all() and self.keeps(wanted, self.columns_of(uniform)):
                return uniform
        return choice

    def _cheapest(self, costs: _Costs) -> NDArray[np.int64]:
        cheapest: NDArray[np.int64] = np.where(self._possible, costs.by_group, np.inf).argmin(axis=1)
        return cheapest

    def counted(self, budget: Budget) -> NDArray[np.bool_]:
        """Tell which weights a budget counts. bool, shape (weights,)."""
        counted = np.ones(len(self._first), dtype=np.bool_)
        if budget.of:
            counted[:] = False
            counted[weight_rows(self._model, budget.of)[0]] = True
        return counted

    def _costs_of(self, budget: Budget, at: NDArray[np.int64], *, keep: bool = True) -> _Costs:
        key = (budget.metric, budget.of)
        if keep and key in self._costs:
            return self._costs[key]
        terms = additive(self._table, budget.metric, self._choices.allowed, self.counted(budget), at, self._int8)
        rows = np.arange(len(self._first))
        fixed = terms.fixed + float(terms.by_weight[rows, self._first][self.member < 0].sum())
        by_group = self._by_group(terms.by_weight)
        found = _Costs(fixed, by_group, hull(self._error, by_group))
        if keep:
            self._costs[key] = found
        return found

    def _by_group(self, by_weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add up over the weights of each group with a choice; shape (groups, columns)."""
        summed = np.zeros((len(self._groups), len(self.columns)))
        chosen = self.member >= 0
        np.add.at(summed, self.member[chosen], by_weight[chosen][:, self.columns])
        return summed

    @property
    def _one_member(self) -> NDArray[np.int64]:
        """One weight of each group with a choice."""
        member = np.zeros(len(self._groups), dtype=np.int64)
        chosen = np.flatnonzero(self.member >= 0)
        member[self.member[chosen]] = chosen
        return member
