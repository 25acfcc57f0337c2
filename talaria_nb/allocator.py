"""Allocator: finds plans of least error within budgets, and says how far each can be from the best one.

Errors and costs are sums over weights (`error_table.py`, `additive.py`), so the best plan is a multiple-choice knapsack
(`knapsack.py`), which `search.py` solves. Here is what people say and get: schemes, pins and budgets, and plans.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.additive import cost
from talaria_nb.allocation import Allocation, BudgetSteps
from talaria_nb.budgets import Budget, budgets
from talaria_nb.choices import choices, pinned_schemes
from talaria_nb.costs import CostTable, cost_table
from talaria_nb.devices import Device
from talaria_nb.devices import device as find_device
from talaria_nb.error_table import error_table
from talaria_nb.errors import BudgetError, PlanError, SchemeError
from talaria_nb.estimate import price
from talaria_nb.graded import GradedError
from talaria_nb.infeasible import choices_that_bind, infeasible, least_cost
from talaria_nb.matching import listed
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.plan import Plan
from talaria_nb.schemes import Scheme
from talaria_nb.search import Search

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
"""HiGHS polishes by itself up to so many groups of weights."""


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
        wanted = tuple(dict.fromkeys((*self._offered, *pinned_schemes(pins or {}))))
        self._pins = dict(pins or {})
        self._alike = listed(alike, "Weights that are to be alike are chosen by globs")
        if table is not None:
            _check_table(table, self._plan)
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
        self._search = Search(self._plan.model, table, self._choices, self._error, self._int8)

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

    @property
    def error(self) -> NDArray[np.float64]:
        """The errors in the columns of the prices, NaN where not known. float64, shape (weights, schemes)."""
        return self._error

    @property
    def choices(self) -> Choices:
        """What each weight may be."""
        return self._choices

    @property
    def search(self) -> Search:
        """What solves it."""
        return self._search

    def among(self, choices: Choices, error: NDArray[np.float64]) -> Search:
        """Return a search among other choices, with other errors."""
        return Search(self._plan.model, self._table, choices, error, self._int8)

    def estimate(self, plan: Plan) -> Estimate:
        """Price any plan of the model on the device."""
        if set(plan.scheme_of_weight) <= self._table.column.keys():
            return price(self._table, self._table.columns_of(plan.scheme_of_weight), plan.int8_mask)
        return plan.estimate(self._device, self._compute_unit)

    def allocate(self, budget: Budgets | None = None, *, polished: bool | None = None) -> Allocation:
        """Find the plan of least error within a budget, or several: the sum of the errors of its weights is least.

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
        found = self._search.find(wanted, polished=len(self._search) <= _SMALL if polished is None else polished)
        if found is None:
            raise self._infeasible(wanted)
        return self._allocation(
            self._search.columns_of(found.choice),
            found.error,
            found.bound,
            optimal=found.optimal,
            spent=dict(zip(wanted, found.costs.tolist(), strict=True)),
        )

    def uniform(self) -> dict[Scheme, Allocation]:
        """Return the plans with one scheme wherever it is allowed; elsewhere they are as loaded, if that is allowed."""
        found: dict[Scheme, Allocation] = {}
        errors = self._search.uniform_error.tolist()
        for option, (column, error) in enumerate(zip(self._search.columns.tolist(), errors, strict=True)):
            columns = self._search.columns_of(self._search.uniform[:, option])
            found[self._table.schemes[column]] = self._allocation(columns, error, 0.0, optimal=False, spent={})
        return found

    def _allocation(
        self, columns: NDArray[np.int64], error: float, bound: float, *, optimal: bool, spent: Mapping[Budget, float]
    ) -> Allocation:
        plan = self._plan.with_schemes([self._table.schemes[column] for column in columns.tolist()])
        return Allocation(
            plan,
            error=error + self._search.fixed_error,
            bound=bound + self._search.fixed_error,
            optimal=optimal,
            spent=spent,
            grade=self._errors.grade,
            what=self._errors.what,
            composed=self._composed(plan),
        )

    def _composed(self, plan: Plan) -> GradedError | None:
        """Return the loss of a plan where the errors know more of it than their sum."""
        errors = self._errors
        value = errors.of_plan(plan) if errors.composes else np.nan
        return None if np.isnan(value) else GradedError(value, errors.grade, errors.what_of_plan)

    def steps(self, metric: Metric) -> BudgetSteps:
        """Return the steps from which a plan for any budget is made at once, by a slider say."""
        return self._search.steps(Budget(metric, 1.0))

    def range_of(self, metric: Metric) -> tuple[float, float]:
        """Return the least that plans can take of something, and what the one of least error takes."""
        budget = Budget(metric, 1.0)
        counted = self._search.counted(budget)
        least = least_cost(self._table, budget, self._choices, counted, self._int8)
        best = self._search.columns_of(self._search.least_error().choice)
        return least, cost(self._table, metric, best, counted, self._int8)

    def _infeasible(self, wanted: tuple[Budget, ...]) -> BudgetError:
        given = choices_that_bind(self._pins, self._alike, self._choices_with)
        counted = {budget: self._search.counted(budget) for budget in wanted}
        return infeasible(self._table, counted, self._choices, given, self._int8)

    def _choices_with(self, pins: Mapping[Where, Pin], alike: Iterable[str | Sequence[str]]) -> Choices:
        return choices(self._plan.model, self._table, self._error, self._offered, pins, alike)


def _check_table(table: object, plan: Plan) -> None:
    if not isinstance(table, CostTable):  # notebooks are untyped
        raise PlanError(f"table= takes what plan.cost_table(device) returns, not {table!r:.80}.")
    if len(table.reason) != len(plan.scheme_of_weight):
        raise PlanError(f"table= is the cost table of another model than {plan.model.program.name}.")


def _offered(schemes: Iterable[Scheme] | None) -> tuple[Scheme, ...]:
    offered = DEFAULT_MENU if schemes is None else tuple(schemes)
    for scheme in offered:
        if not isinstance(scheme, Scheme):
            raise SchemeError(f"schemes= takes schemes such as tnb.Palettize(4), not {scheme!r}.")
    if not offered:
        raise SchemeError("schemes= offers nothing to choose from.")
    return tuple(dict.fromkeys(offered))
