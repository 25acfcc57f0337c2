"""What the Optimize menu's Refine button does: the plan made better by measuring, on a thread beside the kernel's own.

It takes minutes. Meanwhile cells run and plans are edited; what comes out is one step of the history. What was measured
is kept however a run ends, and the next one goes on from it.
"""

from __future__ import annotations

import asyncio
import atexit
from concurrent.futures import CancelledError
from contextlib import suppress
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from talaria_nb.errors import EvaluationError, TalariaError
from talaria_nb.metrics import name_of
from talaria_nb.optimize_menu import kept_as_they_are
from talaria_nb.progress import told
from talaria_nb.refine import refine
from talaria_nb.schemes import Float16
from talaria_nb.sensitivity import Sensitivity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from talaria_nb.plan import Plan
    from talaria_nb.refine import Refined
    from talaria_nb.session import Session

    Answer = dict[str, Any]
    Tell = Callable[[str, float], None]

_TOLD_EVERY_S = 0.2
"""Progress crosses to the browser no more often."""

_PATIENCE_S = 5
"""How long the end of the interpreter waits at most for the trial that is running."""


def ask(session: Session, request: Mapping[str, Any], _tell: Tell) -> Answer:
    """Begin or call off what the Refine button does; returns at once, `session.refine_state` says how it goes.

    Parameters
    ----------
    session
        Whose plan is refined, and which takes what comes out.
    request
        what: "start" or "cancel". keep: rows of ops whose weights stay as they are.

    Raises
    ------
    TalariaError
        If the session has nothing to measure with.
    """
    if request.get("what") == "cancel":
        session.refinement.cancel()
    else:
        session.refinement.start([int(op) for op in request.get("keep", ())])
    return {"ok": True, "message": ""}


def unavailable(session: Session) -> str:
    """Say why a session has nothing to refine plans with; "" where it has."""
    if session.model.module is None:
        return f"{session.model.program.name} was not loaded from a torch module, so no plan of it can be measured."
    if not getattr(session.error, "data", ()):
        return (
            "Refining measures plans on data. In a cell, session.error = tnb.sensitivity(model, data) gives this "
            "session both data and the errors of its outputs."
        )
    return ""


def arguments(session: Session) -> dict[str, Any]:
    """Return what `refine` takes for a session's plan, but data and metric if it has none."""
    given: dict[str, Any] = {
        "budget": session.plan_budgets,
        "device": session.device,
        "compute_unit": session.compute_unit,
        "error": session.error,
        "schemes": tuple(dict.fromkeys((*session.menu, *session.plan.scheme_of_weight))),
        "table": session.cost_table,
    }
    if isinstance(session.error, Sensitivity):
        given |= {"data": session.error.data, "metric": session.error.measured_by}
    return given


def step(found: Refined, given: Mapping[str, Any]) -> str:
    """Say in the history what `refine` found with these arguments."""
    return f"refined within {_budgets(found)}: {_losses(found, given)} (measured)"


def said(found: Refined, given: Mapping[str, Any]) -> str:
    """Say what came of it to whoever asked."""
    count = len(given["data"])
    losses = f"{_losses(found, given)}, measured on {count} input{'' if count == 1 else 's'}"
    if found.error == found.given:
        return f"Nothing better was found within {_budgets(found)}: {losses}."
    return (
        f"Within {_budgets(found)}: {losses}. That chose the plan, so it looks better than it is: "
        "tnb.evaluate(session.plan, other_data) tells more."
    )


def _budgets(found: Refined) -> str:
    return " and ".join(budget.text for budget in found.spent)


def _losses(found: Refined, given: Mapping[str, Any]) -> str:
    """Write the measured loss, after that of the plan given if that was measured and is another one."""
    before = f"{found.given:.3g} → " if found.error < found.given else ""
    return f"{name_of(given.get('metric', 'mse'))} {before}{found.error:.3g}"


class Refinement:
    """One session's runs of `refine` from the menu, one at a time.

    The thread of a run touches no widget: what it has to say is said on the loop of the thread that began it. Without a
    loop, as in a script, there is no thread either.

    Parameters
    ----------
    session
        Whose; its `refine_state` says whether there is a run, how far it is, and what came of the last one.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._thread: Thread | None = None
        self._cancelled = False
        self._told_at = 0.0
        self._state: dict[str, Any] = {"running": False, "stage": "", "done": 0.0, "ok": True, "message": ""}
        self._show()
        session.observe(lambda _change: self._show(), "error_state")

    def start(self, keep: list[int]) -> None:
        """Begin with the session's plan; ops of `keep` leave their weights as they are. Nothing happens while one runs.

        Raises
        ------
        EvaluationError
            If the session has nothing to refine with, or the plan compresses nothing.
        """
        session = self._session
        if self._state["running"]:
            return
        if why := unavailable(session):
            raise EvaluationError(why)
        if all(isinstance(scheme, Float16) for scheme in session.plan.scheme_of_weight):
            raise EvaluationError(
                "This plan compresses nothing, so there is no loss to win back. Find one for a budget."
            )
        given = arguments(session) | {"pins": kept_as_they_are(session, keep), "progress": False}
        for name in session.model.program.weights.name[:1]:
            session.model.weight_value(name)  # opens here what the thread then only reads
        self._cancelled = False
        self._show(running=True, stage="Preparing", done=0.0, ok=True, message="")
        try:
            later = asyncio.get_running_loop().call_soon_threadsafe
        except RuntimeError:  # a script has no loop
            self._run(session.plan, given, lambda act: act())
            return
        self._thread = Thread(target=self._run, args=(session.plan, given, later), name="refine", daemon=True)
        atexit.register(self._end)
        self._thread.start()

    def cancel(self) -> None:
        """Have the run end at its next trial."""
        self._cancelled = True

    def _end(self) -> None:
        """Keep the thread from running into an interpreter that is being taken down."""
        self._cancelled = True
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)

    def _run(self, plan: Plan, given: dict[str, Any], later: Callable[[Callable[[], None]], object]) -> None:
        def tell(stage: str, done: float) -> None:
            if self._cancelled:
                raise CancelledError
            now = monotonic()
            if now - self._told_at >= _TOLD_EVERY_S:
                self._told_at = now
                later(lambda: self._show(stage=stage, done=done))

        found = None
        ok, message = False, "This failed; the kernel's log says more."
        try:
            with told(tell):
                found = refine(plan, **given)
            ok, message = True, said(found, given)
        except CancelledError:
            ok, message = True, f"Called off. {_KEPT}"
        except KeyboardInterrupt:
            message = f"The kernel was interrupted. {_KEPT}"
        except TalariaError as error:
            message = str(error)
        finally:
            with suppress(RuntimeError):  # the loop is closed
                later(lambda: self._over(found, given, ok=ok, message=message))

    def _over(self, found: Refined | None, given: Mapping[str, Any], *, ok: bool, message: str) -> None:
        self._thread = None
        atexit.unregister(self._end)
        if found is not None and found.error != found.given:
            self._session.take(found, step(found, given))
        self._show(running=False, ok=ok, message=message)

    def _show(self, **changed: Any) -> None:
        self._state |= changed
        self._session.set_trait("refine_state", self._state | {"unavailable": unavailable(self._session)})


_KEPT = "What was measured is kept: the next run goes on from it."
