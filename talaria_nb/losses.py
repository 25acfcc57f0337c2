"""Losses of whole plans, for browsers to show: composed from what weights do to the outputs, once edits rest.

A browser cannot compose; it adds errors up, and corrects sums by how far off they are for the plans of which it has a
loss from here (`js/src/errors.ts`).
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import traitlets as t

from talaria_nb import wire
from talaria_nb.accuracy import Accuracy
from talaria_nb.baselines import Baselines
from talaria_nb.later import Later
from talaria_nb.pricing import call_living

_QUIET_S = 0.1
"""Composing takes some milliseconds of the kernel's own thread: not one edit after the other."""


class Losses(Baselines, Accuracy):
    """The part of a session that says what the plan, and what it is compared with, lose as a whole."""

    # What crosses to the browser; `js/src/errors.ts` is the other side.
    loss_state = t.Dict(read_only=True).tag(sync=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._composing = Later(partial(call_living, weakref.WeakMethod(self.publish_losses)), _QUIET_S, at_exit=False)
        super().__init__(*args, **kwargs)

    @t.observe("plan", "baseline_state", "error_state")
    def _on_plans(self, _change: t.Bunch) -> None:
        self._composing.ask()

    def publish_losses(self) -> None:
        """Compose what browsers are to know; done by itself a moment after the last edit, where a loop runs."""
        errors = self.error
        if errors is None or not errors.composes:
            self.set_trait("loss_state", {})
            return
        plans = dict.fromkeys(plan for plan in (self.plan, self.baseline) if plan is not None)
        losses = [(self._columns_of(plan), errors.of_plan(plan)) for plan in plans]
        self.set_trait("loss_state", wire.pack_losses(losses, revision=self.error_state["revision"]))
