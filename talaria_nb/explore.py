"""explore(): the Explorer on a model or a plan."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from IPython.display import display

from talaria_nb.devices import listed_device
from talaria_nb.errors import DeviceError, PlanError
from talaria_nb.exploration import kept_at, read
from talaria_nb.paths import expanded
from talaria_nb.session import Session

if TYPE_CHECKING:
    from talaria_nb.load import Model
    from talaria_nb.plan import Plan


def explore(
    model_or_plan: Model | Plan,
    device: str = "iPhone 15 Pro",
    compute_unit: str = "all",
    *,
    resume: bool | str | os.PathLike[str] = False,
) -> Session:
    """Open the Explorer on a model or a plan, and show it in the notebook.

    Parameters
    ----------
    model_or_plan
        What `tnb.load` returns, or a plan to start from.
    device
        A name from `tnb.devices()`, or a chip's. Devices of your own (`tnb.device("my_chip.toml")`) are for
        `Plan.estimate` and `allocate`: a session knows names alone.
    compute_unit
        One of `talaria_nb.devices.COMPUTE_UNITS`.
    resume
        True to go on where the last session on this model ended, after a restart of the kernel say: with its plan,
        history, selection, device, compute unit, budgets, snapshots and baseline. The path of a file keeps the
        exploration there, rather than in the user's cache folder by the model's fingerprint. Where nothing was kept
        yet, it starts as it does without.

    Returns
    -------
    Session
        For edits from Python: `session.plan`, `session.selection`, `session.undo()`, and for single views:
        `session.table`, `session.graph`, `session.details`, `session.summary`, `session.sliders`.

    Raises
    ------
    PlanError
        If the first argument is neither a model nor a plan, `resume` is none of these, or what was kept is of another
        model or damaged.
    DeviceError
        If the device or the compute unit is unknown, or the device is one of your own.
    """
    if not isinstance(resume, (bool, str, os.PathLike)):  # notebooks are untyped
        raise PlanError(f"resume= is True, False or the path of a file, not {resume!r:.80}.")
    try:
        listed_device(device).unit(compute_unit)
    except DeviceError as error:
        raise error.with_traceback(None) from None  # a page of frames would say nothing more
    session = Session(model_or_plan, device, compute_unit)
    path = kept_at(session.model) if isinstance(resume, bool) else expanded(resume, PlanError)
    kept = None if resume is False else read(path, session.model)
    if kept is not None:
        session.take_up(kept)
    display(session.explorer)  # type: ignore[no-untyped-call]
    where = True if isinstance(resume, bool) else json.dumps(os.fspath(resume), ensure_ascii=False)
    session.keep(path, f"tnb.explore(model, resume={where})", is_kept=kept is not None)
    session.find_errors(wait=False)
    return session
