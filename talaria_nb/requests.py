"""What a browser asks a session for, and what it gets: a table of actions.

`js/src/requests.ts` asks. Each action takes the session, the request and a way to tell how far it is; what it returns
is the answer: at least ok, and a message where that is false.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from talaria_nb import op_details, refine_menu
from talaria_nb.errors import PlanError, TalariaError
from talaria_nb.optimize_menu import optimize, pareto

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from talaria_nb.plan import Plan
    from talaria_nb.session import Session

    # Called with what is being done, and how much of it is, 0 to 1.
    Tell: TypeAlias = Callable[[str, float], None]
    Request: TypeAlias = Mapping[str, Any]
    Answer: TypeAlias = dict[str, Any]


def respond(session: Session, request: Request, answered: set[object]) -> None:
    """Do what a browser asks for; whatever happens, it gets an answer.

    Parameters
    ----------
    session
        Whom it asks.
    request
        action, id, what that action takes, and earlier: requests that had no answer when this one was made. A busy
        kernel may never see those, for the last of several values that a trait gets replaces the others.
    answered
        The ids that were answered, to which these are added.
    """
    try:
        for each in request.get("earlier", ()):
            if each.get("id") not in answered:
                _respond(session, each, answered)
    finally:
        _respond(session, request, answered)


def _respond(session: Session, request: Request, answered: set[object]) -> None:
    action = _ACTIONS.get(request.get("action", ""))
    if action is None:
        return
    answered.add(request.get("id"))
    identity = {"id": request.get("id"), "action": request["action"]}
    answer: Answer = {"ok": False, "message": "This failed; the kernel's log says more."}
    try:
        answer = action(
            session,
            request,
            lambda stage, done: session.set_trait("progress", identity | {"stage": stage, "done": done}),
        )
    except TalariaError as error:
        answer = {"ok": False, "message": str(error)}
    except KeyboardInterrupt:
        answer = {"ok": False, "message": "The kernel was interrupted."}
    finally:
        session.set_trait("response", identity | answer)


def _export(session: Session, request: Request, tell: Tell) -> Answer:
    from talaria_nb import export_menu  # noqa: PLC0415 - imports coremltools' compressors, which takes a second

    return export_menu.answer(session.plan, request, tell)


def _snapshot(session: Session, request: Request, _tell: Tell) -> Answer:
    """Keep the current plan under the name asked for, or forget what is kept there."""
    name = str(request.get("name") or "").strip()
    if request.get("forget"):
        session.forget(name)
    else:
        session.snapshot(name)
    return {"ok": True, "message": ""}


def _baseline(session: Session, request: Request, _tell: Tell) -> Answer:
    """Compare with a plan that the browser has: a step of the history, or a snapshot."""
    if not request.get("name"):
        session.baseline = None
    else:
        session.compare(plan_of(session, request["scheme"], request["int8"]), str(request["name"]))
    return {"ok": True, "message": ""}


def _details(session: Session, request: Request, _tell: Tell) -> Answer:
    return op_details.answer(session.model, session.cost_table.schemes, request)


def plan_of(session: Session, columns: Any, int8: Any) -> Plan:
    """Make a plan of columns of the cost table and a flag for each op, as they come from a browser.

    Raises
    ------
    PlanError
        If they are not of this model.
    """
    schemes, program = session.cost_table.schemes, session.model.program
    chosen = np.asarray(columns, dtype=np.int64)
    flags = np.asarray(int8, dtype=np.bool_)
    sized = chosen.shape == (len(program.weights),) and flags.shape in {(0,), (len(program.ops),)}
    if not sized or not ((chosen >= 0) & (chosen < len(schemes))).all():
        raise PlanError(f"This plan is not for {program.name}: the page is out of date. Show the view again.")
    return session.plan.with_schemes([schemes[column] for column in chosen.tolist()], np.flatnonzero(flags).tolist())


_ACTIONS: Mapping[str, Callable[[Session, Request, Tell], Answer]] = {
    "export": _export,
    "snapshot": _snapshot,
    "baseline": _baseline,
    "details": _details,
    "optimize": optimize,
    "pareto": pareto,
    "refine": refine_menu.ask,
}
"""What is asked for → what does it."""
