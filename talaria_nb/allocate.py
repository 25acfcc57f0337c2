"""allocate(): the plan of least error within a budget, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from talaria_nb.allocator import Allocator
from talaria_nb.choices import pinned_schemes
from talaria_nb.errors import BudgetError
from talaria_nb.plan import Plan
from talaria_nb.recipes import preset as find_preset

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from talaria_nb.allocation import Allocation
    from talaria_nb.allocator import Budgets, Errors
    from talaria_nb.choices import Pin, Where
    from talaria_nb.costs import CostTable
    from talaria_nb.devices import Device
    from talaria_nb.load import Model
    from talaria_nb.recipes import Preset
    from talaria_nb.schemes import Scheme


def allocate(
    model_or_plan: Model | Plan,
    budget: Budgets | None = None,
    *,
    device: str | Device | None = None,
    compute_unit: str = "all",
    error: Errors = None,
    schemes: Iterable[Scheme] | None = None,
    pins: Mapping[Where, Pin] | None = None,
    alike: Iterable[str | Sequence[str]] = (),
    preset: str | Preset | None = None,
    polished: bool | None = None,
    table: CostTable | None = None,
    progress: bool = True,
) -> Allocation:
    """Find the plan of least error within a budget.

    Parameters
    ----------
    model_or_plan, device, compute_unit, error, schemes, pins, alike, table, progress
        As in `Allocator`.
    budget, polished
        As in `Allocator.allocate`. Only with a preset it may be left out.
    preset
        A name from `tnb.presets()`, or a `Preset`: schemes and pins, and a budget unless one is given. Further pins
        hold over its own.

    Returns
    -------
    Allocation
        The plan, its error with its grade, and a proven bound for the error of the best plan.

    Raises
    ------
    BudgetError
        If it is no budget, or no plan keeps it: with the least that can be reached, and the pins that are to blame.
    PlanError, SchemeError
        If pins, schemes or errors do not fit the model.
    DeviceError
        If the device or the compute unit is unknown.
    """
    model = model_or_plan.model if isinstance(model_or_plan, Plan) else model_or_plan
    if preset is not None:
        recipe = find_preset(preset).recipe(model)
        pinned_schemes(pins or {})  # says what is wrong with them
        pins = {**recipe.pins, **(pins or {})}
        budget = recipe.budget if budget is None else budget
        schemes = recipe.schemes if schemes is None else schemes
    elif budget is None:
        raise BudgetError('No budget is given: allocate(model, "3.6 bits"), "4 MB", "5 ms" or "2 mJ".')
    found = Allocator(
        model_or_plan,
        device=device,
        compute_unit=compute_unit,
        error=error,
        schemes=schemes,
        pins=pins,
        alike=alike,
        table=table,
        progress=progress,
    )
    return found.allocate(budget, polished=polished)
