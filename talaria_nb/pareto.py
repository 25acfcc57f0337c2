"""pareto(): the best plans over a range of budgets, beside the plans with one scheme everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from talaria_nb.allocator import Allocator
from talaria_nb.budgets import METRICS, Budget, budgets
from talaria_nb.errors import BudgetError
from talaria_nb.names import as_html
from talaria_nb.plot_theme import ACCENT, COOL, WARM, neutral

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from talaria_nb.allocation import Allocation
    from talaria_nb.allocator import Budgets, Errors
    from talaria_nb.budgets import Metric
    from talaria_nb.choices import Pin, Where
    from talaria_nb.devices import Device
    from talaria_nb.load import Model
    from talaria_nb.plan import Plan
    from talaria_nb.schemes import Scheme

AXES: Mapping[Metric, tuple[str, str]] = {
    "size": ("size_bytes", "Size of the package, bytes"),
    "bits": ("bits_per_weight", "Bits a weight"),
    "latency": ("latency_ms", "Latency, ms, estimated"),
    "energy": ("energy_mj", "Energy, mJ, a rough guess"),
}
"""Metric → its column and what to write below the axis."""

_POINTS = 40
_SPENT: Mapping[Metric, str] = {"size": "bytes", "bits": "bits", "latency": "ms", "energy": "mJ"}
"""Metric → what `low` and `high` count."""
BEST, UNIFORM, CURRENT = "best plans", "one scheme everywhere", "current plan"


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """The best plans over a range of budgets.

    Attributes
    ----------
    along
        What the budgets are of.
    frame
        One row a plan: kind ("best" or "uniform"), scheme of uniform ones, size_bytes, bits_per_weight, latency_ms and
        energy_mj as in `Estimate`, loss, error, and of the best plans bound and gap, as in `Allocation`. The loss is
        what is estimated of the plan as a whole; the plans are best by error, the sum over their weights, which is the
        same for errors that are only added up.
    plans
        The plan of each row.
    allocator
        What found them.
    """

    along: Metric
    frame: pd.DataFrame
    plans: tuple[Allocation, ...]
    allocator: Allocator

    @property
    def column(self) -> str:
        """The column of `frame` that holds what the budgets are of."""
        return AXES[self.along][0]

    def figure(self, current: Plan | None = None) -> go.Figure:
        """Draw the loss over what is spent, with a marker for a plan if one is given.

        Returns
        -------
        plotly.graph_objects.Figure
            Three traces: `BEST`, `UNIFORM` and `CURRENT`; `customdata` of the first two holds rows of `frame`. The
            loss is on a logarithmic axis, so plans without any are left out.
        """
        column, title = self.column, AXES[self.along][1]
        figure = go.Figure()
        for name, kind, mode, colour in (
            (BEST, "best", "lines+markers", ACCENT),
            (UNIFORM, "uniform", "markers", WARM),
        ):
            shown = self.frame[(self.frame["kind"] == kind) & (self.frame["loss"] > 0)]
            figure.add_scatter(
                x=shown[column],
                y=shown["loss"],
                mode=mode,
                name=name,
                line={"color": colour},
                marker={"color": colour},
                customdata=shown.index,
                text=shown["scheme"],
                hovertemplate="%{text}<br>%{x:.4g}: error %{y:.3g}<extra></extra>",
            )
        x, y = ([], []) if current is None else self.place(current)
        figure.add_scatter(x=x, y=y, mode="markers", name=CURRENT, marker={"size": 12, "symbol": "x", "color": COOL})
        errors = self.allocator.errors
        figure.update_layout(
            title=f"The best plans of {as_html(self.allocator.plan.model.program.name)}",
            xaxis={"title": title},
            yaxis={"type": "log", "title": f"Error ({errors.grade}): {errors.what_of_plan}", "exponentformat": "power"},
            legend={"orientation": "h", "y": 1.0, "yanchor": "bottom"},
            margin={"t": 72, "r": 16},
            height=440,
            clickmode="event",
        )
        return neutral(figure)

    def place(self, plan: Plan) -> tuple[list[float], list[float]]:
        """Return where a plan is in the figure, (x, y); nowhere if its error is not known."""
        loss = self.allocator.errors.of_plan(plan)
        if np.isnan(loss):
            return [], []
        return [float(getattr(self.allocator.estimate(plan), self.column))], [loss]


def front(
    allocator: Allocator,
    along: Metric = "bits",
    *,
    low: float | None = None,
    high: float | None = None,
    points: int = _POINTS,
    budget: Budgets | None = None,
) -> Front:
    """Find the best plans over a range of budgets; parameters as in `pareto`."""
    kept = () if budget is None else budgets(budget)
    found: dict[Plan, Allocation] = {}
    refused: BudgetError | None = None
    for step in _steps(allocator, along, low, high, points).tolist():
        try:
            plan = allocator.allocate((*kept, Budget(along, step)), polished=False)
        except BudgetError as error:
            refused = error
        else:
            found.setdefault(plan, plan)
    if refused is not None and not found:
        raise refused
    uniform = allocator.uniform()
    plans = (*found.values(), *uniform.values())
    estimates = [allocator.estimate(plan) for plan in plans]
    frame = pd.DataFrame(
        {
            "kind": ["best"] * len(found) + ["uniform"] * len(uniform),
            "scheme": [""] * len(found) + [scheme.label for scheme in uniform],
            **{column: [getattr(each, column) for each in estimates] for column, _ in AXES.values()},
            "loss": [plan.error if plan.composed is None else plan.composed.value for plan in plans],
            "error": [plan.error for plan in plans],
            "bound": [plan.bound for plan in found.values()] + [np.nan] * len(uniform),
            "gap": [plan.gap for plan in found.values()] + [np.nan] * len(uniform),
        }
    )
    return Front(along, frame, plans, allocator)


def _steps(
    allocator: Allocator, along: Metric, low: float | None, high: float | None, points: int
) -> NDArray[np.float64]:
    """Space budgets evenly on a logarithmic scale, or say what is wrong with their range."""
    if along not in METRICS:
        raise BudgetError(f"There is no budget of {along!r}: along= is one of {', '.join(METRICS)}.")
    program = allocator.plan.model.program
    if not len(program.weights):
        raise BudgetError(f"{program.name} has no weights, so all that it has is one plan.")
    least, most = allocator.range_of(along)
    low, high = least if low is None else low, most if high is None else high
    for end in (low, high):
        if not isinstance(end, Real):
            raise BudgetError(f"low= and high= are numbers of {_SPENT[along]}, not {end!r}.")
    if not isinstance(points, Integral) or points < 1:
        raise BudgetError(f"points= is a whole number of at least 1, not {points!r}.")
    if not 0 < low <= high:
        raise BudgetError(f"A front goes from a budget above 0 to a larger one, not from {low!r} to {high!r}.")
    steps = np.geomspace(low, high, points)
    steps[0], steps[-1] = low, high  # not rounded: the least is exactly what can be reached
    return steps


def pareto(
    model_or_plan: Model | Plan,
    *,
    device: str | Device | None = None,
    compute_unit: str = "all",
    error: Errors = None,
    along: Metric = "bits",
    low: float | None = None,
    high: float | None = None,
    points: int = _POINTS,
    budget: Budgets | None = None,
    schemes: Iterable[Scheme] | None = None,
    pins: Mapping[Where, Pin] | None = None,
    alike: Iterable[str | Sequence[str]] = (),
    progress: bool = True,
) -> Front:
    """Find the best plans over a range of budgets, and those with one scheme everywhere for comparison.

    Parameters
    ----------
    model_or_plan, device, compute_unit, error, schemes, pins, alike, progress
        As in `Allocator`.
    along
        "size", "bits", "latency" or "energy".
    low, high
        Ends of the range, in bytes, bits, ms or mJ; None for the least that can be reached, and for what the plan of
        least error takes.
    points
        How many budgets are looked at; plans that are found twice are listed once.
    budget
        Further budgets that every plan has to keep.

    Returns
    -------
    Front
        `front.frame` as data, `front.figure()` as a plotly figure; `session.pareto()` links one to a session.

    Raises
    ------
    BudgetError
        If the model has no weights, there is no such range or number of points, or no plan in it keeps the further
        budgets.
    """
    allocator = Allocator(
        model_or_plan,
        device=device,
        compute_unit=compute_unit,
        error=error,
        schemes=schemes,
        pins=pins,
        alike=alike,
        progress=progress,
    )
    return front(allocator, along, low=low, high=high, points=points, budget=budget)
