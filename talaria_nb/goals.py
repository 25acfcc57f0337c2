"""The budgets that a session's plan is held against, here and in the browser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import traitlets as t

from talaria_nb.budgets import Budget, Metric, budgets
from talaria_nb.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Iterator

METRIC_OF: Mapping[str, Metric] = {
    "size_bytes": "size",
    "latency_ms": "latency",
    "energy_mj": "energy",
    "bits_per_weight": "bits",
}
"""Figure of an `Estimate` → the metric of its budget."""


class Goals(t.HasTraits):
    """The part of a session that holds budgets.

    Attributes
    ----------
    budgets
        The most that the plan should take, a tuple of `Budget`; settable with all that `tnb.allocate` takes ("4 MB",
        ["4 MB", "5 ms"]), or a mapping such as {"size_bytes": 4e6, "latency_ms": 5}; None for no budget. Views show
        how much of each is used, and can set them too.
    """

    budgets: t.TraitType[Any, Any] = t.TraitType(())

    # What crosses to the browser, both ways: metric → the most, in bytes, ms, mJ or bits.
    budget_state = t.Dict().tag(sync=True)

    @t.validate("budgets")
    def _read_budgets(self, proposal: t.Bunch) -> tuple[Budget, ...]:
        given = proposal["value"]
        listed = list(_named(given)) if isinstance(given, Mapping) else given
        found = () if listed is None or listed in ((), []) else budgets(listed)
        partial = [budget for budget in found if budget.of]
        if partial:
            raise BudgetError(
                f"The Explorer's budgets count all weights, so it cannot show {partial[0].text}. Give that to "
                "session.allocate alone."
            )
        return found

    @t.observe("budgets")
    def _on_budgets(self, change: t.Bunch) -> None:
        self.budget_state = {budget.metric: budget.most for budget in change["new"]}

    @t.observe("budget_state")
    def _on_budget_state(self, change: t.Bunch) -> None:
        self.budgets = tuple(Budget(metric, float(most)) for metric, most in change["new"].items())


def _named(given: Mapping[str, Any]) -> Iterator[Budget]:
    for name, most in given.items():
        metric = METRIC_OF.get(name)
        if metric is None:
            raise BudgetError(f"There is no budget of {name!r}: use one of {', '.join(METRIC_OF)}.")
        yield Budget(metric, most)
