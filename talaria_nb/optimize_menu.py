"""What the Explorer's Optimize menu and its Pareto chart do: the best plans for budgets, and presets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from talaria_nb.allocate import allocate
from talaria_nb.allocator import Allocator
from talaria_nb.budgets import METRICS, amount, in_short
from talaria_nb.errors import BudgetError
from talaria_nb.infeasible import InfeasibleError
from talaria_nb.pareto import front
from talaria_nb.recipes import PRESETS
from talaria_nb.wire import pack_front, pack_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from talaria_nb.allocation import Allocation
    from talaria_nb.choices import Pin, Where
    from talaria_nb.error_table import Grade
    from talaria_nb.session import Session

    Answer = dict[str, Any]
    Tell = Callable[[str, float], None]

WARNINGS: Mapping[Grade, str] = {
    "weight": (
        "This is the error of the weights alone. It knows nothing about the model's output: a plan that is best by it "
        "can be worse than a uniform one. session.error = tnb.sensitivity(…) comes closer."
    ),
    "estimated": (
        "This is estimated: the error of each weight, weighed by what the model's output makes of it, added up. The "
        "sum tells where to save; what a whole plan loses is another number, and is said of the plan that is found."
    ),
    "measured": "This was measured, weight by weight, at the model's output; several errors at once may add otherwise.",
}
"""Grade of the error that is minimised → what that is worth."""

_LOOKING, _SEARCHING = 0.1, 0.7
"""How much is done when the weights are looked at, and when plans are."""


def optimize(session: Session, request: Mapping[str, Any], tell: Tell) -> Answer:
    """Do what the Optimize menu asks for.

    Parameters
    ----------
    session
        Whose plan, menu, device and errors are used, and which takes the plan that is found.
    request
        what: "open" for everything a slider needs, "budget" for the best plan for the text in `budget`, "preset" for
        that of the preset in `name`. keep: rows of ops whose weights stay as they are. gesture: the step of the history
        that the plan is a part of.
    tell
        Called with the stage and how much is done, 0 to 1.

    Returns
    -------
    dict
        ok, and message in a sentence or two. For "open": steps (`pack_steps`), grade, what, warning, presets.

    Raises
    ------
    TalariaError
        If there is no such plan: with what can be reached.
    """
    pins = kept_as_they_are(session, [int(op) for op in request.get("keep", ())])
    what = request.get("what")
    if what == "open":
        allocator = _allocator(session, pins, tell)
        errors = allocator.errors
        return {
            "ok": True,
            "message": "",
            "steps": pack_steps(allocator.steps("bits")),
            "grade": errors.grade,
            "what": errors.what,
            "warning": WARNINGS[errors.grade],
            "presets": [{"name": each.name, "says": each.says, "source": each.source} for each in PRESETS.values()],
        }
    if what == "preset":
        _find_errors(session, tell)
        name = str(request.get("name"))
        tell("Looking for a plan", _SEARCHING)
        found = allocate(
            session.plan,
            preset=name,
            device=session.device,
            compute_unit=session.compute_unit,
            error=session.error,
            table=session.cost_table,
            pins=pins,
        )
        label = f"preset {name}"
    else:
        text = str(request.get("budget", "")).strip()
        try:
            found = _allocator(session, pins, tell).allocate(text)
        except InfeasibleError as error:
            raise BudgetError(f"{error.fact} {_remedy(pinned=error.pinned)}") from None
        label = f"best plan for {text}"
    session.take(found, label, str(request.get("gesture", "")))
    return {"ok": True, "message": said(session, found)}


def _remedy(*, pinned: bool) -> str:
    """Say what a person at the menu can do where no plan keeps the budget."""
    return f"Raise the budget{', or keep less of the plan as it is' if pinned else ''}."


def said(session: Session, found: Allocation) -> str:
    """Say what a plan takes, and how good it is by the error that was minimised."""
    estimate = session.estimate
    timed = [amount(each.metric, value) for each, value in found.spent.items() if each.metric in {"latency", "energy"}]
    takes = ", ".join([f"{estimate.bits_per_weight:.2f} bits a weight", f"{in_short(estimate.size_bytes)}", *timed])
    best = "no plan has less" if found.optimal or found.gap == 0 else f"at most {found.gap:.1%} above the best plan"
    if found.composed is None:
        return f"{takes}. Error ({found.grade}: {found.what}) {found.error:.3g}, {best}."
    loss = found.loss()
    return (
        f"{takes}. Error ({loss.grade}: {loss.what}) {loss.value:.3g}. "
        f"What was made least is the sum over its weights, {found.error:.3g}: {best}."
    )


def kept_as_they_are(session: Session, ops: list[int]) -> dict[Where, Pin]:
    """Pin the weights that some ops read to the schemes that they have."""
    weights, chosen = session.model.program.weights, set(ops)
    names = [name for name, readers in zip(weights.name, weights.readers, strict=True) if chosen.intersection(readers)]
    return {(name,): session.plan[name] for name in names}


def pareto(session: Session, request: Mapping[str, Any], tell: Tell) -> Answer:
    """Find the best plans over a range of budgets, for the Pareto chart; along is a metric of `budgets.METRICS`."""
    along = request.get("along", "bits")
    if along not in METRICS:
        raise BudgetError(f"There is no budget of {along!r}: along is one of {', '.join(METRICS)}.")
    allocator = _allocator(session, {}, tell)
    found = front(allocator, along)
    columns = [session.cost_table.columns_of(plan.scheme_of_weight) for plan in found.plans]
    return {"ok": True, "message": ""} | pack_front(found, np.stack(columns))


def _allocator(session: Session, pins: Mapping[Where, Pin], tell: Tell) -> Allocator:
    _find_errors(session, tell)
    tell("Looking for plans", _SEARCHING)
    return Allocator(
        session.plan,
        device=session.device,
        compute_unit=session.compute_unit,
        error=session.error,
        schemes=session.menu,
        pins=pins,
        table=session.cost_table,
        progress=False,
    )


def _find_errors(session: Session, tell: Tell) -> None:
    """Wait for the errors of all weights, which are on their way since the Explorer opened."""
    if session.error is None:
        tell("Looking at the weights", _LOOKING)
        session.find_errors()
