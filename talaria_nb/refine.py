"""refine(): a plan made better by measuring plans whole, for sums of the losses of single weights do not tell all."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from talaria_nb.allocation import Allocation
from talaria_nb.allocator import Allocator
from talaria_nb.budgets import budgets
from talaria_nb.choices import pinned_schemes
from talaria_nb.errors import BudgetError, EvaluationError
from talaria_nb.exchanges import Exchanges
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.metrics import name_of
from talaria_nb.plan import Plan
from talaria_nb.schemes import Float16
from talaria_nb.torch_weights import compressed, find_links
from talaria_nb.trials import bench, results_file, run

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from talaria_nb.allocator import Budgets, Errors
    from talaria_nb.budgets import Budget
    from talaria_nb.choices import Pin, Where
    from talaria_nb.costs import CostTable
    from talaria_nb.devices import Device
    from talaria_nb.load import Model
    from talaria_nb.metrics import Metric
    from talaria_nb.schemes import Scheme

    Columns = NDArray[np.int64]
    Losses = Callable[[Sequence[Columns], str], NDArray[np.float64]]

ROUNDS = 4
"""Rounds at most, unless said otherwise."""

_GIVEN = "the plan given"
"""What a start is called that is the caller's own plan."""

_PASSES = 100
"""About so many changes of single weights are measured in a round, but at least two for each weight."""


class Refined(Allocation):
    """A plan that was found by measuring. It is an `Allocation` whose error is the loss of this very plan.

    How far it is from the best plan is not known: `bound` and `gap` are NaN.

    Attributes
    ----------
    start
        What it was made from: "the plan given", "the least sum of errors", or one scheme wherever it is allowed.
    given
        The measured loss of the plan given; NaN if it did not keep the budget, or had what may not be chosen.
    losses
        The measured loss of that, and after each round that found something better; the last one is `error`.
    """

    __slots__ = ("given", "losses", "start")

    def __init__(
        self, plan: Plan, *, start: str, given: float, losses: Sequence[float], spent: Mapping[Budget, float], what: str
    ) -> None:
        super().__init__(plan, error=losses[-1], bound=np.nan, optimal=False, spent=spent, grade="measured", what=what)
        self.start, self.given, self.losses = start, given, tuple(losses)

    @property
    def gap(self) -> float:
        """NaN: how far the best plan is cannot be measured."""
        return np.nan

    @property
    def _worth(self) -> str:
        rounds = len(self.losses) - 1
        after = f", {self.losses[0]:.4g} before {rounds} round{'' if rounds == 1 else 's'}" if rounds else ""
        return f"{self.what} {self.error:.4g} (measured{after})"


def refine(
    model_or_plan: Model | Plan,
    data: Iterable[Any],
    *,
    budget: Budgets | None = None,
    metric: Metric = "mse",
    device: str | Device | None = None,
    compute_unit: str = "all",
    error: Errors = None,
    schemes: Iterable[Scheme] | None = None,
    pins: Mapping[Where, Pin] | None = None,
    alike: Iterable[str | Sequence[str]] = (),
    table: CostTable | None = None,
    rounds: int = ROUNDS,
    executor: Executor | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Refined:
    """Make the plan for a budget better by measuring plans whole.

    `allocate` adds up losses of single weights, which does not see how errors of several weights work together; that
    matters most in small networks and at few bits. Here the given plan, the plan of `allocate`, and all plans with one
    scheme wherever it is allowed are measured on the data, as far as they keep the budget. From the best of them on,
    each round measures what changes of single weights do while all others stay as they are, solves the budget anew
    with that, measures several of the plans that come out, and takes the best if it is better. So on these data the
    result is never worse than any of the plans that it began with.

    Parameters
    ----------
    model_or_plan
        A plan that came from a torch module; int8 activations are kept, but not measured. If it does not keep the
        budget, or has what may not be chosen, it is no start. Or such a model.
    data
        As in `sensitivity`. The loss on the very data that chose the plan is too good to be true: measure on others
        (`tnb.evaluate`), which is why it does not become the plan's evaluation.
    budget
        As in `Allocator.allocate`; by default that of a plan that `allocate` found.
    metric
        As in `sensitivity`.
    device, compute_unit, error, pins, alike, table
        As in `Allocator`. The errors say where `allocate` begins and which changes are looked at first.
    schemes
        What weights may be; by default the default menu and what the plan has.
    rounds
        How many rounds at most; it ends earlier when one finds nothing better. One takes two passes over the data for
        each weight, or 100 if that is more, and some twenty for plans.
    executor, cache
        As in `sensitivity`. A run that was cut off goes on from what was measured.
    progress
        Show a bar for each round, with the time left.

    Returns
    -------
    Refined
        The plan of least loss on the data that was measured, with the grade "measured".

    Raises
    ------
    EvaluationError
        As `sensitivity`, or if `rounds` is no whole number from 0, or all plans to begin with make the outputs infinite
        or NaN.
    BudgetError, PlanError, SchemeError, DeviceError
        As `allocate`.
    """
    given = model_or_plan if isinstance(model_or_plan, Plan) else Plan(model_or_plan)
    if budget is None:
        budget = list(given.spent) if isinstance(given, Allocation) else []
    if not budget:
        raise BudgetError('No budget is given: refine(plan, data, budget="3.6 bits"), or "4 MB", "5 ms" or "2 mJ".')
    if not isinstance(rounds, int) or rounds < 0:  # notebooks are untyped
        raise EvaluationError(f"rounds= is a whole number of at least 0, not {rounds!r}.")
    pinned_schemes(pins or {})  # says what is wrong with them
    prepared = bench(given.model, data, metric)
    missing = find_links(given.model).missing
    compressed(given, missing)  # says which weights cannot be measured
    exchanges = Exchanges(
        Allocator(
            given,
            device=device,
            compute_unit=compute_unit,
            error=error,
            schemes=dict.fromkeys((*DEFAULT_MENU, *given.scheme_of_weight)) if schemes is None else schemes,
            pins={**(pins or {}), tuple(missing): Float16()} if missing else pins,
            alike=alike,
            table=table,
            progress=progress,
        ),
        budgets(budget),
    )
    results = results_file(prepared, given.model, "trial", cache)

    def losses(plans: Sequence[Columns], title: str) -> NDArray[np.float64]:
        trials = [exchanges.trial(columns) for columns in plans]
        found = run(prepared, trials, results, executor, progress=progress, title=title)
        return np.nan_to_num([found[trial].loss for trial in trials], nan=np.inf, posinf=np.inf)

    starts = _starts(exchanges, budget)
    at_start = losses(list(starts.values()), "Plans to begin with")
    first = int(at_start.argmin())
    best, path = list(starts.values())[first], [float(at_start[first])]
    if not np.isfinite(path[0]):
        message = (
            f"All plans to begin with make {type(prepared.module).__name__} return infinite values or NaN. Give a "
            "larger budget, or pin the weights that cause it to more bits."
        )
        raise EvaluationError(message)
    for number in range(1, rounds + 1):
        better, loss = _round(exchanges, best, path[-1], losses, f"Round {number} of {rounds} at most")
        if not loss < path[-1]:
            break
        best = better
        path.append(loss)
    return Refined(
        exchanges.plan(best),
        start=list(starts)[first],
        given=dict(zip(starts, at_start.tolist(), strict=True)).get(_GIVEN, np.nan),
        losses=path,
        spent=exchanges.spent(best),
        what=f"{name_of(metric)} on the data that chose it",
    )


def _starts(exchanges: Exchanges, budget: Budgets) -> dict[str, Columns]:
    """Return the plans to begin with, by what they are called."""
    allocator = exchanges.allocator
    plans = {_GIVEN: allocator.plan, "the least sum of errors": allocator.allocate(budget)}
    plans |= {f"{scheme.label} everywhere": plan for scheme, plan in allocator.uniform().items()}
    known = allocator.table.column.keys()
    columns = {
        name: allocator.table.columns_of(plan.scheme_of_weight)
        for name, plan in plans.items()
        if known >= set(plan.scheme_of_weight)
    }
    return {name: each for name, each in columns.items() if exchanges.keeps(each)}


def _round(exchanges: Exchanges, columns: Columns, loss: float, losses: Losses, title: str) -> tuple[Columns, float]:
    """Measure changes of a plan, one at a time, then plans that they suggest; return the best within the budgets."""
    changes = exchanges.nearby(columns, max(_PASSES // (2 * max(len(exchanges), 1)), 1))
    single = [exchanges.changed(columns, [change]) for change in changes]
    of_single = losses(single, title)
    added = {change: each - loss for change, each in zip(changes, of_single.tolist(), strict=True) if np.isfinite(each)}
    plans = exchanges.suggested(columns, added)
    of_plans = losses(plans, f"{title}: plans")
    found = zip((*single, *plans), (*of_single.tolist(), *of_plans.tolist()), strict=True)
    better = [(plan, each) for plan, each in found if each < loss and exchanges.keeps(plan)]
    return min(better, key=itemgetter(1), default=(columns, loss))
