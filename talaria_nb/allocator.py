"""Allocator: finds plans of least error within budgets, and says how far each can be from the best one.

Errors and costs are sums over weights (`error_table.py`, `additive.py`), so the best plan is a multiple-choice knapsack
(`knapsack.py`), solved on convex hulls that are found once. The costs of what comes out are checked by the estimate
itself; where the sums were below it, the plan is found again with so much less room, until every budget is really kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from talaria_nb.additive import additive, cost
from talaria_nb.allocation import Allocation, BudgetSteps
from talaria_nb.budgets import Budget, budgets
from talaria_nb.choices import choices, pinned_schemes
from talaria_nb.costs import CostTable, cost_table
from talaria_nb.descent import descend
from talaria_nb.devices import Device
from talaria_nb.devices import device as find_device
from talaria_nb.error_table import error_table
from talaria_nb.errors import BudgetError, SchemeError
from talaria_nb.estimate import price
from talaria_nb.hulls import Hull, hull
from talaria_nb.infeasible import choices_that_bind, infeasible, is_coupled, least_cost
from talaria_nb.knapsack import Knapsack, Solution, polish, solve
from talaria_nb.matching import weight_rows
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.plan import Plan
from talaria_nb.schemes import Scheme

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from talaria_nb.budgets import Metric
    from talaria_nb.choices import Choices, Pin, Where
    from talaria_nb.error_table import ErrorTable
    from talaria_nb.estimate import Estimate
    from talaria_nb.load import Model

    Errors = str | ErrorTable | pd.DataFrame | pd.Series | NDArray[np.floating] | None
    Budgets = str | Budget | Iterable[str | Budget]

_ANY_DEVICE = "iPhone 15 Pro"
"""Sizes and bits are the same on all."""

_SMALL = 200
_POLISH_SECONDS = 1.0
"""HiGHS polishes by itself up to so many groups of weights, and takes so long at most."""

_TRIES = 8
_ROUNDING = 1e-12
"""So much more, relatively, is given to sums that are only compared with estimates later: the order of sums differs."""


@dataclass(frozen=True, slots=True, eq=False)
class _Costs:
    """One cost over groups: what is the same in every plan, a term for each group and option, and its hulls."""

    fixed: float
    by_group: NDArray[np.float64]
    hull: Hull


class _Found(NamedTuple):
    """Options of the groups with a choice, their error and real costs, a bound, and whether nothing is better."""

    choice: NDArray[np.int64]
    error: float
    costs: NDArray[np.float64]
    bound: float
    optimal: bool


class Allocator:
    """Finds plans of one model on one device, again and again: what does not depend on the budget is prepared once.

    Parameters
    ----------
    model_or_plan
        What `tnb.load` returns, or a plan whose int8 activations are kept.
    device, compute_unit
        As in `Plan.estimate`; needed for latency and energy.
    error
        What schemes do to weights, as in `error_table.error_table`: by default noise to signal, which looks at the
        weights alone. A sensitivity comes closer to what happens to the model's output.
    schemes
        What weights may be; the default menu if None.
    pins
        Where → a scheme, several, or a number of bits: `{"head": 8, "embeddings.*": tnb.LinearQuantize("int8")}`. Of
        several that match a weight the last holds.
    alike
        Each entry is a glob, or several: all weights that it matches get the same scheme.
    table
        Prices of the device, to use instead of counting them anew; columns may be more than are offered.
    progress
        Show a bar while the weights are looked at.

    Raises
    ------
    PlanError, SchemeError
        As `choices.choices` and `error_table.error_table`.
    DeviceError
        If the device or the compute unit is unknown.
    """

    def __init__(
        self,
        model_or_plan: Model | Plan,
        *,
        device: str | Device | None = None,
        compute_unit: str = "all",
        error: Errors = None,
        schemes: Iterable[Scheme] | None = None,
        pins: Mapping[Where, Pin] | None = None,
        alike: Iterable[str | Sequence[str]] = (),
        table: CostTable | None = None,
        progress: bool = True,
    ) -> None:
        self._plan = model_or_plan if isinstance(model_or_plan, Plan) else Plan(model_or_plan)
        self._device_given = device is not None or table is not None
        self._device = device if isinstance(device, Device) else find_device(device or _ANY_DEVICE)
        self._compute_unit = compute_unit
        self._offered = _offered(schemes)
        self._pins = dict(pins or {})
        self._alike = [alike] if isinstance(alike, str) else list(alike)
        wanted = tuple(dict.fromkeys((*self._offered, *pinned_schemes(pins or {}))))
        if table is None or not set(wanted) <= set(table.schemes):
            table = cost_table(
                self._plan.model.program,
                self._device,
                compute_unit=compute_unit,
                schemes=wanted,
            )
        self._table = table
        self._int8 = self._plan.int8_mask if self._plan.int8_ops else None
        self._errors = error_table(self._plan.model, wanted, error, progress=progress)
        self._error = self._errors.of(self._plan.model, table.schemes)
        self._choices = self._choices_with(self._pins, self._alike)
        allowed = self._choices.allowed
        start = table.start.astype(np.int64)
        rows = np.arange(len(start))
        self._first = np.where(allowed[rows, start], start, allowed.argmax(axis=1))
        self._columns = np.flatnonzero(allowed.any(axis=0))  # the others are nobody's
        self._groups = np.flatnonzero(np.bincount(self._choices.group, weights=allowed.sum(axis=1) > 1) > 0)
        place = np.full(len(start), -1)
        place[self._groups] = np.arange(len(self._groups))
        self._member = place[self._choices.group]  # -1 for weights without a choice
        self._possible = np.zeros((len(self._groups), len(self._columns)), dtype=np.bool_)
        chosen = self._member >= 0
        self._possible[self._member[chosen]] = allowed[chosen][:, self._columns]
        error_of = np.where(self._possible, self._by_group(np.nan_to_num(self._error)), np.inf)
        self._group_error = error_of
        self._fixed_error = float(self._error[rows, self._first][~chosen].sum())
        # One scheme wherever it is allowed; elsewhere as loaded, if that is allowed.
        place = np.searchsorted(self._columns, self._first[self._one_member])
        self._uniform = np.where(self._possible, np.arange(len(self._columns)), place[:, None])
        self._uniform_error = self._group_error[np.arange(len(place))[:, None], self._uniform].sum(axis=0)
        self._costs: dict[tuple[Metric, tuple[str, ...]], _Costs] = {}

    @property
    def plan(self) -> Plan:
        """The plan that it started from."""
        return self._plan

    @property
    def table(self) -> CostTable:
        """The prices."""
        return self._table

    @property
    def errors(self) -> ErrorTable:
        """The errors."""
        return self._errors

    def estimate(self, plan: Plan) -> Estimate:
        """Price any plan of the model on the device."""
        if set(plan.scheme_of_weight) <= self._table.column.keys():
            return price(self._table, self._table.columns_of(plan.scheme_of_weight), plan.int8_mask)
        return plan.estimate(self._device, self._compute_unit)

    def error_of(self, plan: Plan) -> float:
        """Add up the errors of any plan of the model; NaN if one of them is not known."""
        schemes = tuple(dict.fromkeys(plan.scheme_of_weight))
        at = [schemes.index(scheme) for scheme in plan.scheme_of_weight]
        return float(self._errors.of(self._plan.model, schemes)[np.arange(len(at)), at].sum())

    def allocate(self, budget: Budgets | None = None, *, polished: bool | None = None) -> Allocation:
        """Find the plan of least error within a budget, or several.

        Parameters
        ----------
        budget
            "4 MB" (the package), "3.6 bits" (a weight), "5 ms", "2 mJ", a `tnb.Budget`, or several of them; None for
            the least error there is.
        polished
            Let HiGHS look for something better and prove that there is nothing. None: if there are at most 200
            choices to make, for a second at most. False is fast enough to follow a slider.

        Raises
        ------
        BudgetError
            If it is no budget, or no plan keeps it: with the least that can be reached, and the pins that are to blame.
        """
        wanted = () if budget is None else budgets(budget)
        for each in wanted:
            if each.metric in ("latency", "energy") and not self._device_given:
                raise BudgetError(f"A budget of {each.metric} needs a device: allocate(…, device={_ANY_DEVICE!r}).")
        found = self._find(wanted, polished=len(self._groups) <= _SMALL if polished is None else polished)
        return self._allocation(
            self._columns_of(found.choice),
            found.error,
            found.bound,
            optimal=found.optimal,
            spent=dict(zip(wanted, found.costs.tolist(), strict=True)),
        )

    def uniform(self) -> dict[Scheme, Allocation]:
        """Return the plans with one scheme wherever it is allowed; elsewhere they are as loaded, if that is allowed."""
        found: dict[Scheme, Allocation] = {}
        for option, (column, error) in enumerate(
            zip(self._columns.tolist(), self._uniform_error.tolist(), strict=True)
        ):
            columns = self._columns_of(self._uniform[:, option])
            found[self._table.schemes[column]] = self._allocation(columns, error, 0.0, optimal=False, spent={})
        return found

    def _allocation(
        self, columns: NDArray[np.int64], error: float, bound: float, *, optimal: bool, spent: Mapping[Budget, float]
    ) -> Allocation:
        return Allocation(
            self._plan.with_schemes([self._table.schemes[column] for column in columns.tolist()]),
            error=error + self._fixed_error,
            bound=bound + self._fixed_error,
            optimal=optimal,
            spent=spent,
            grade=self._errors.grade,
            what=self._errors.what,
        )

    def steps(self, metric: Metric) -> BudgetSteps:
        """Return the steps from which a plan for any budget is made at once, by a slider say."""
        budget = Budget(metric, 1.0)
        costs = self._costs_of(budget, self._first)
        found = costs.hull
        least = costs.fixed + found.least_cost
        return BudgetSteps(
            columns=self._columns_of(found.option[0]),
            least=least,
            most=least + float(found.cost.sum()),
            group=self._member,
            step_group=found.group,
            step_column=self._columns[found.option[found.stage + 1, found.group]],
            step_cost=found.cost,
        )

    def range_of(self, metric: Metric) -> tuple[float, float]:
        """Return the least that plans can take of something, and what the one of least error takes."""
        budget = Budget(metric, 1.0)
        least = least_cost(self._table, budget, self._choices, self._counted(budget), self._int8)
        best = self._find((), polished=False).choice
        return least, cost(self._table, metric, self._columns_of(best), self._counted(budget), self._int8)

    def _find(self, wanted: tuple[Budget, ...], *, polished: bool) -> _Found:
        if not wanted:
            choice = self._group_error.argmin(axis=1)
            error = float(self._group_error.min(axis=1).sum()) if choice.size else 0.0
            return _Found(choice, error, np.zeros(0), error, optimal=True)
        found = self._solved(wanted, [self._costs_of(budget, self._first) for budget in wanted], polished=polished)
        timed = [budget.metric for budget in wanted if budget.metric in ("latency", "energy")]
        if any(is_coupled(self._table, metric, self._choices) for metric in timed):
            at = self._columns_of(found.choice)  # decides better which weights those ops wait for
            again = [self._costs_of(budget, at, keep=False) for budget in wanted]
            second = self._solved(wanted, again, polished=polished)
            best = min((found, second), key=lambda each: each.error)
            found = best._replace(bound=max(found.bound, second.bound), optimal=found.optimal or second.optimal)
        return found

    def _solved(self, wanted: tuple[Budget, ...], costs: Sequence[_Costs], *, polished: bool) -> _Found:
        """Solve with less and less room until the estimates keep the budgets, then polish."""
        problem = Knapsack(self._group_error, np.stack([each.by_group for each in costs]))
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
            spent = self._spent(wanted, solution.choice)
            if (spent <= limits).all():
                choice = self._not_worse_than_uniform(problem, solution.choice, wanted, room)
                return self._polished(problem, first._replace(choice=choice), wanted, reserve, room, polished=polished)
            reserve = np.maximum(reserve, spent - fixed - problem.total(solution.choice)[1])
        if first is None:
            raise self._infeasible(wanted)

        def score(choice: NDArray[np.int64]) -> tuple[float, float]:
            over = np.maximum(self._spent(wanted, choice) / limits - 1, 0).sum()
            return float(over), problem.total(choice)[0]

        starts = (first.choice, *map(self._cheapest, costs))
        found, (over, error) = min(
            (descend(start, self._possible, score) for start in starts), key=lambda each: each[1]
        )
        if over > 0:
            raise self._infeasible(wanted)
        return _Found(found, error, self._spent(wanted, found), max(first.bound, 0.0), optimal=False)

    def _polished(
        self,
        problem: Knapsack,
        start: Solution,
        wanted: tuple[Budget, ...],
        reserve: NDArray[np.float64],
        room: NDArray[np.float64],
        *,
        polished: bool,
    ) -> _Found:
        """Let HiGHS improve a choice: by the budgets as they are, and if that is too near, with some room left."""
        choice, optimal = start.choice, problem.total(start.choice)[0] <= start.bound
        if polished and not optimal:
            for held in (np.zeros_like(reserve), reserve) if reserve.any() else (reserve,):
                better, proven = polish(problem, start, room - held, seconds=_POLISH_SECONDS)
                if self._kept(wanted, better):
                    choice, optimal = better, proven and not held.any()
                    break
        error = problem.total(choice)[0]
        return _Found(choice, error, self._spent(wanted, choice), min(max(start.bound, 0.0), error), optimal)

    def _kept(self, wanted: tuple[Budget, ...], choice: NDArray[np.int64]) -> bool:
        spent = self._spent(wanted, choice)
        return all(most <= budget.most for most, budget in zip(spent.tolist(), wanted, strict=True))

    def _not_worse_than_uniform(
        self, problem: Knapsack, choice: NDArray[np.int64], wanted: tuple[Budget, ...], room: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Return the best uniform choice within the limits if it is better, which takes very uneven weights."""
        error = problem.total(choice)[0]
        for option in np.argsort(self._uniform_error).tolist():
            if self._uniform_error[option] >= error:
                break
            uniform: NDArray[np.int64] = self._uniform[:, option]
            if (problem.total(uniform)[1] <= room).all() and self._kept(wanted, uniform):
                return uniform
        return choice

    def _infeasible(self, wanted: tuple[Budget, ...]) -> BudgetError:
        given = choices_that_bind(self._pins, self._alike, self._choices_with)
        counted = {budget: self._counted(budget) for budget in wanted}
        return infeasible(self._table, counted, self._choices, given, self._int8)

    def _cheapest(self, costs: _Costs) -> NDArray[np.int64]:
        cheapest: NDArray[np.int64] = np.where(self._possible, costs.by_group, np.inf).argmin(axis=1)
        return cheapest

    def _choices_with(self, pins: Mapping[Where, Pin], alike: Iterable[str | Sequence[str]]) -> Choices:
        return choices(self._plan.model, self._table, self._error, self._offered, pins, alike)

    def _counted(self, budget: Budget) -> NDArray[np.bool_]:
        counted = np.ones(len(self._first), dtype=np.bool_)
        if budget.of:
            counted[:] = False
            counted[weight_rows(self._plan.model, budget.of)[0]] = True
        return counted

    def _costs_of(self, budget: Budget, at: NDArray[np.int64], *, keep: bool = True) -> _Costs:
        key = (budget.metric, budget.of)
        if keep and key in self._costs:
            return self._costs[key]
        terms = additive(self._table, budget.metric, self._choices.allowed, self._counted(budget), at, self._int8)
        rows = np.arange(len(self._first))
        fixed = terms.fixed + float(terms.by_weight[rows, self._first][self._member < 0].sum())
        by_group = self._by_group(terms.by_weight)
        found = _Costs(fixed, by_group, hull(self._group_error, by_group))
        if keep:
            self._costs[key] = found
        return found

    def _by_group(self, by_weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add up over the weights of each group with a choice; shape (groups, columns)."""
        summed = np.zeros((len(self._groups), len(self._columns)))
        chosen = self._member >= 0
        np.add.at(summed, self._member[chosen], by_weight[chosen][:, self._columns])
        return summed

    def _columns_of(self, choice: NDArray[np.integer]) -> NDArray[np.int64]:
        columns = self._first.copy()
        chosen = self._member >= 0
        columns[chosen] = self._columns[choice][self._member[chosen]]
        return columns

    def _spent(self, wanted: tuple[Budget, ...], choice: NDArray[np.integer]) -> NDArray[np.float64]:
        columns = self._columns_of(choice)
        return np.array([cost(self._table, each.metric, columns, self._counted(each), self._int8) for each in wanted])

    @property
    def _one_member(self) -> NDArray[np.int64]:
        """One weight of each group with a choice."""
        member = np.zeros(len(self._groups), dtype=np.int64)
        chosen = np.flatnonzero(self._member >= 0)
        member[self._member[chosen]] = chosen
        return member


def _offered(schemes: Iterable[Scheme] | None) -> tuple[Scheme, ...]:
    offered = DEFAULT_MENU if schemes is None else tuple(schemes)
    for scheme in offered:
        if not isinstance(scheme, Scheme):
            raise SchemeError(f"schemes= takes schemes such as tnb.Palettize(4), not {scheme!r}.")
    if not offered:
        raise SchemeError("schemes= offers nothing to choose from.")
    return tuple(dict.fromkeys(offered))
