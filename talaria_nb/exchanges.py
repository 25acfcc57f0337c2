"""Changes of a plan: which to measure around it, and the plans that what was measured suggests.

The loss that a change makes is measured with all other weights as the plan has them, so near the plan such losses add
up, whatever weights do together. Further away they do not: of the plans suggested here some change little.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from talaria_nb.choices import Choices
from talaria_nb.hulls import hull
from talaria_nb.schemes import Float16

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from talaria_nb.allocator import Allocator
    from talaria_nb.budgets import Budget
    from talaria_nb.plan import Plan
    from talaria_nb.trials import Trial

_PENALTIES = (0.0, 0.5, 1.0, 2.0, 4.0)
"""What every change must gain to be worth it, in turn: these times the mean gain of a change in the first plan."""

_EXCHANGES = 16
"""So many pairs of changes are suggested by themselves, those that promise most."""


class Change(NamedTuple):
    """One group of weights that are alike, mostly one weight, goes to another column of the cost table."""

    group: int
    column: int


@dataclass(frozen=True, eq=False)
class Exchanges:
    """Plans within budgets, as columns of the cost table for all weights; int64, shape (weights,).

    Attributes
    ----------
    allocator
        The model, its prices and what may be chosen.
    wanted
        The budgets.
    """

    allocator: Allocator
    wanted: tuple[Budget, ...]

    def __len__(self) -> int:
        """How many groups have a choice."""
        return len(self._groups)

    def plan(self, columns: NDArray[np.int64]) -> Plan:
        """Return a plan as such."""
        schemes = self.allocator.table.schemes
        return self.allocator.plan.with_schemes([schemes[column] for column in columns.tolist()])

    def trial(self, columns: NDArray[np.int64]) -> Trial:
        """Return what has to be run to measure a plan."""
        chosen = self.plan(columns).schemes.items()
        return tuple((name, scheme) for name, scheme in chosen if not isinstance(scheme, Float16))

    def spent(self, columns: NDArray[np.int64]) -> dict[Budget, float]:
        """Return what a plan takes of each budget, as estimated."""
        return dict(zip(self.wanted, self.allocator.search.spent(self.wanted, columns).tolist(), strict=True))

    def keeps(self, columns: NDArray[np.int64]) -> bool:
        """Tell whether a plan keeps the budgets, and has what may be chosen."""
        choices = self.allocator.choices
        allowed = choices.allowed[np.arange(len(columns)), columns].all()
        alike = (columns[self._first[choices.group]] == columns).all()
        return bool(allowed and alike) and self.allocator.search.keeps(self.wanted, columns)

    def changed(self, columns: NDArray[np.int64], changes: Iterable[Change]) -> NDArray[np.int64]:
        """Return the plan after some changes."""
        found = columns.copy()
        for group, column in changes:
            found[self.allocator.choices.group == group] = column
        return found

    def nearby(self, columns: NDArray[np.int64], reach: int) -> list[Change]:
        """List changes of single groups: so many steps down and up in bytes, on the hull of their errors over bytes."""
        found = []
        for group in self._groups.tolist():
            now = int(columns[self._first[group]])
            size = self._bytes[group]
            smaller = [column for column in self._on_hull[group] if size[column] < size[now]]
            larger = [column for column in self._on_hull[group] if size[column] >= size[now] and column != now]
            found += [Change(group, column) for column in (*smaller[-reach:], *larger[:reach])]
        return found

    def suggested(self, columns: NDArray[np.int64], added: Mapping[Change, float]) -> list[NDArray[np.int64]]:
        """Return plans that promise less loss: those of the least sum, with more and more reluctance, and exchanges.

        Parameters
        ----------
        columns
            The plan.
        added
            What single changes of it add to its loss.
        """
        plans = [*self._solved(columns, added), *self._exchanged(columns, added)]
        return [np.array(plan) for plan in dict.fromkeys(tuple(plan.tolist()) for plan in plans)]

    def _solved(self, columns: NDArray[np.int64], added: Mapping[Change, float]) -> Iterator[NDArray[np.int64]]:
        choices = self.allocator.choices
        tried = np.zeros_like(choices.allowed)
        tried[np.arange(len(columns)), columns] = True
        error, changes = np.zeros(tried.shape), np.zeros(tried.shape)
        for (group, column), loss in added.items():
            tried[choices.group == group, column] = True
            error[self._first[group], column] = loss
            changes[self._first[group], column] = 1.0
        error -= np.where(tried, error, 0.0).min(axis=1, keepdims=True)  # errors are not below zero
        gain = 0.0
        for penalty in _PENALTIES:
            search = self.allocator.among(Choices(tried, choices.group), error + penalty * gain * changes)
            solution = search.find(self.wanted, polished=True)
            found = columns if solution is None else search.columns_of(solution.choice)
            moved = np.flatnonzero(found[self._first] != columns[self._first])
            if not moved.size:
                return
            if not gain:
                rows = self._first[moved]
                gain = float((error[rows, columns[rows]] - error[rows, found[rows]]).mean())
            yield found

    def _exchanged(self, columns: NDArray[np.int64], added: Mapping[Change, float]) -> Iterator[NDArray[np.int64]]:
        changes = list(added)
        if not changes:
            return
        search = self.allocator.search
        spent = search.spent(self.wanted, columns)
        extra = np.array([search.spent(self.wanted, self.changed(columns, [change])) - spent for change in changes])
        room = np.array([budget.most for budget in self.wanted]) - spent
        loss, group = np.array(list(added.values())), np.array([change.group for change in changes])
        both = loss[:, None] + loss
        fits = (extra[:, None] + extra <= room + _CLOSE * np.abs(spent)).all(axis=2)
        one, other = np.nonzero(np.triu(fits & (both < 0) & (group[:, None] != group)))
        left = _EXCHANGES
        for at in np.argsort(both[one, other], kind="stable").tolist():
            plan = self.changed(columns, (changes[one[at]], changes[other[at]]))
            if self.keeps(plan):
                yield plan
                left -= 1
            if not left:
                return

    @cached_property
    def _groups(self) -> NDArray[np.int64]:
        """The numbers of the groups with a choice."""
        return np.flatnonzero(self.allocator.choices.allowed[self._first].sum(axis=1) > 1)

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        """The first weight of each group."""
        return np.unique(self.allocator.choices.group, return_index=True)[1]

    @cached_property
    def _bytes(self) -> NDArray[np.float64]:
        """Bytes of every group under every scheme. float64, shape (groups, schemes)."""
        table = self.allocator.table
        return self._by_group(table.file_bytes + table.proto_bytes)

    @cached_property
    def _on_hull(self) -> list[list[int]]:
        """Columns on the hull of each group, cheapest first."""
        error = self._by_group(np.nan_to_num(self.allocator.error))
        error = np.where(self.allocator.choices.allowed[self._first], error, np.inf)
        return [list(dict.fromkeys(columns)) for columns in hull(error, self._bytes).option.T.tolist()]

    def _by_group(self, by_weight: NDArray[np.float64]) -> NDArray[np.float64]:
        summed = np.zeros((len(self._first), by_weight.shape[1]))
        np.add.at(summed, self.allocator.choices.group, by_weight)
        return summed


_CLOSE = 1e-6
"""Whether exchanges keep budgets is looked at exactly where sums, which are not exact, are over by so much at most."""
