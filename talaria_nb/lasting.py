"""What outlives a session: the file that another goes on from, and a still picture in the saved notebook."""

from __future__ import annotations

import warnings
import weakref
from typing import TYPE_CHECKING
from uuid import uuid4

from IPython import get_ipython
from IPython.display import display

from talaria_nb.exploration import write
from talaria_nb.later import Later
from talaria_nb.still import still

if TYPE_CHECKING:
    from pathlib import Path

    from talaria_nb.session import Session

LASTING = (
    "plan_state",
    "selection",
    "device",
    "compute_unit",
    "budget_state",
    "snapshot_state",
    "baseline_state",
)
"""Traits of a session that, when they change, are to be kept."""


class Lasting:
    """Writes what lasts of a session a moment after it has changed, and at the end of the session or the kernel.

    Parameters
    ----------
    session
        Held weakly.
    path
        The file to write to.
    call
        What goes on from that file: the session's `resume_call` from its first change on, while it can be written.

    Attributes
    ----------
    still_class
        CSS class of the picture that stands below the cell; the front end hides what has it while the session lives.
        "" outside of Jupyter's kernels, where there is no picture.
    """

    def __init__(self, session: Session, path: Path, call: str) -> None:
        self._path = path
        self._call = call
        self._is_failing = False
        self._alive = weakref.ref(session)
        self._later = Later(self._keep)
        in_notebook = getattr(get_ipython(), "kernel", None) is not None
        self.still_class = f"tlr-still-{uuid4().hex}" if in_notebook else ""
        self._picture = (
            display(_bundle(session, self.still_class), raw=True, display_id=True)  # type: ignore[no-untyped-call]
            if in_notebook
            else None
        )
        session.observe(self._on_change, LASTING)

    def stop(self) -> None:
        """Write what is not written yet, and nothing from now on."""
        self._later.stop()

    def _on_change(self, _change: object) -> None:
        session = self._alive()
        if session is not None and not self._is_failing:
            session.set_trait("resume_call", self._call)
        self._later.ask()

    def _keep(self) -> None:
        session = self._alive()
        if session is None:
            return
        try:
            write(self._path, session.model, session.exploration)
        except OSError as error:
            if not self._is_failing:
                warnings.warn(f"This exploration is not kept for {self._call}: {error}", stacklevel=2)
            self._is_failing = True
            session.set_trait("resume_call", "")
        else:
            self._is_failing = False
            session.set_trait("resume_call", self._call)
        if self._picture is not None:
            self._picture.update(_bundle(session, self.still_class), raw=True)


def _bundle(session: Session, css_class: str) -> dict[str, str]:
    return {"text/html": still(session, css_class), "text/plain": ""}
