"""Budgets: the most that a plan may take of one thing, written as people say it: "4 MB", "3.6 bits", "5 ms", "2 mJ"."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from talaria_nb.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Mapping

Metric: TypeAlias = Literal["size", "bits", "latency", "energy"]

BYTES: Mapping[str, float] = {
    "B": 1,
    "kB": 1e3,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
MILLISECONDS: Mapping[str, float] = {"us": 1e-3, "µs": 1e-3, "ms": 1, "s": 1e3}
MILLIJOULES: Mapping[str, float] = {"uJ": 1e-3, "µJ": 1e-3, "mJ": 1, "J": 1e3}
BITS: Mapping[str, float] = {"bit": 1, "bits": 1}

UNITS_OF: Mapping[Metric, Mapping[str, float]] = {
    "size": {**BYTES, "bytes": 1},
    "bits": BITS,
    "latency": MILLISECONDS,
    "energy": MILLIJOULES,
}
"""Metric → the units that it is written in, and how many of the metric's own each is."""

METRICS: tuple[Metric, ...] = tuple(UNITS_OF)


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that a plan may take of one thing.

    Parameters
    ----------
    metric
        "size": bytes of the whole package. "bits": stored bits a weight, tables and scales included. "latency":
        estimated ms of one prediction. "energy": estimated mJ of one prediction.
    most
        In bytes, bits, ms or mJ.
    of
        Of "bits" only: globs of the weights that are counted, as in `Plan.set`; none for all weights.

    Raises
    ------
    BudgetError
        If the metric is unknown, or `most` is not a positive number.
    """

    metric: Metric
    most: float
    of: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.metric not in UNITS_OF:
            raise BudgetError(f"There is no budget of {self.metric!r}: use one of {', '.join(METRICS)}.")
        if isinstance(self.most, bool) or not isinstance(self.most, (int, float)) or not 0 < self.most < math.inf:
            raise BudgetError(f"A budget of {self.metric} is a positive number, not {self.most!r}.")
        object.__setattr__(self, "of", (self.of,) if isinstance(self.of, str) else tuple(self.of))
        if self.of and self.metric != "bits":
            raise BudgetError(f"Only a budget of bits counts some weights alone (of=…), not one of {self.metric}.")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read a budget from a number and a unit: "4 MB", "3.6 bits", "5 ms", "2 mJ".

        Raises
        ------
        BudgetError
            If it is not that.
        """
        match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([^\W\d]*)\s*", text)
        for metric, units in UNITS_OF.items():
            if match is not None and match[2] in units:
                return cls(metric, float(match[1]) * units[match[2]])
        raise BudgetError(f"{text!r} {_no_budget(match)}")

    @property
    def text(self) -> str:
        """As a person would say it."""
        many = f"{len(self.of)} weights" if len(self.of) > _SHOWN else ", ".join(self.of)
        return amount(self.metric, self.most) + (f" of {many}" if self.of else "")


_SHOWN = 3


def _no_budget(match: re.Match[str] | None) -> str:
    """Say why a text is no budget, with what can be written in its place."""
    if match is None:
        return 'is no budget. Write a number and a unit: "4 MB", "3.6 bits", "5 ms" or "2 mJ".'
    number, written = match.groups()
    if not written:
        return f'has no unit. Write "{number} bits" or "{number} MB", "{number} ms" or "{number} mJ".'
    meant = [unit for units in UNITS_OF.values() for unit in units if unit.lower() == written.lower()]
    if meant:
        return f'has an unknown unit. Did you mean "{number} {meant[-1]}"?'
    return f'has an unknown unit. Write a number and a unit, such as "{number} MB" or "{number} bits".'


def amount(metric: Metric, value: float) -> str:
    """Write a value of a metric with its unit; bytes in full."""
    if metric == "size":
        return f"{math.ceil(value):,} bytes"
    number = f"{value:.4g}"
    units = {"bits": "bit" if number == "1" else "bits", "latency": "ms", "energy": "mJ"}
    return f"{number} {units[metric]}"


def in_short(size_bytes: float) -> str:
    """Write bytes as people read them, in powers of 1000 as on screen."""
    for unit in ("B", "KB", "MB"):
        if size_bytes < 999.5:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} GB"


def at_least(metric: Metric, value: float) -> str:
    """Write as `amount` does, rounded up: what is written is a budget that can be kept."""
    if metric == "size" or value <= 0:
        return amount(metric, value)
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return amount(metric, math.ceil(value / step) * step)


def budgets(given: str | Budget | Iterable[str | Budget]) -> tuple[Budget, ...]:
    """Read one budget or several; of two for the same thing the smaller one counts.

    Raises
    ------
    BudgetError
        If one of them is no budget, or there is none.
    """
    listed = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    least: dict[tuple[Metric, tuple[str, ...]], Budget] = {}
    for each in listed:
        if not isinstance(each, (str, Budget)):
            raise BudgetError(f'A budget is a text such as "4 MB" or "3.6 bits", or a tnb.Budget, not {each!r}.')
        budget = Budget.parse(each) if isinstance(each, str) else each
        key = (budget.metric, budget.of)
        least[key] = min(budget, least.get(key, budget), key=lambda one: one.most)
    if not least:
        raise BudgetError('No budget is given: write one such as "4 MB" or "3.6 bits".')
    return tuple(least.values())
