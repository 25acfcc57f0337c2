"""What a session knows of its plan's accuracy beyond the errors of weights: errors that were estimated or measured."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets as t

from talaria_nb import wire
from talaria_nb.error_table import ErrorTable, error_table
from talaria_nb.errors import PlanError
from talaria_nb.plan import Plan
from talaria_nb.pricing import Priced

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from talaria_nb.graded import GradedError

_EVALUATIONS_SHOWN = 20
"""The newest cross to the browser: a person remembers no more of them."""


class Accuracy(Priced):
    """The part of a session that holds errors of outputs, for views to show."""

    # What crosses to the browser; `js/src/errors.ts` is the other side.
    error_state = t.Dict(read_only=True).tag(sync=True)
    evaluation_state = t.List(t.Dict(), read_only=True).tag(sync=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._error: ErrorTable | None = None
        self._revision = 0
        self._anchors: dict[Plan, float] = {}
        super().__init__(*args, **kwargs)
        self.model.evaluations.listen(self._publish_evaluations)
        self._publish_evaluations()

    @property
    def error(self) -> ErrorTable | None:
        """What each scheme of each weight does to the outputs; `allocate` minimises its sum.

        Views show what it says of a plan as a whole, which for a sensitivity is `Sensitivity.total`.

        Settable with what `tnb.sensitivity` returns, or anything else that `tnb.allocate(error=…)` takes; None goes
        back to the errors of the weights alone.
        """
        return self._error

    @error.setter
    def error(self, error: ErrorTable | pd.DataFrame | pd.Series | NDArray[np.floating] | str | None) -> None:
        found = None if error is None else error_table(self.model, self.cost_table.schemes, error)
        if found is not None:
            fingerprint = getattr(found, "fingerprint", self.model.program.fingerprint)  # sensitivities have one
            if fingerprint != self.model.program.fingerprint:
                raise PlanError(f"These errors are of another model than {self.model.program.name}.")
            found.of(self.model, self.cost_table.schemes)  # says what is wrong with them
        self._error = found
        self._revision += 1
        self._anchors = {}
        self._publish_error()

    @t.observe("costs")
    def _on_costs(self, _change: t.Bunch) -> None:
        self._publish_error()

    @property
    def loss(self) -> GradedError:
        """What the current plan costs in accuracy by the best that is known, as views show it: `Plan.loss`."""
        return self.plan.loss(self._error)

    def _publish_error(self) -> None:
        errors, table = self._error, self.cost_table
        packed: wire.Wire = {}
        if errors is not None:
            anchors = list(self._find_anchors(errors)) if errors.composes else []
            packed = wire.pack_error(errors, self.model, table, revision=self._revision, anchors=anchors)
        self.set_trait("error_state", packed)

    def _find_anchors(self, errors: ErrorTable) -> Iterator[tuple[NDArray[np.int64], float]]:
        """Compose the losses of plans with one scheme wherever it is legal, one of each width: browsers follow them."""
        table, loaded = self.cost_table, Plan(self.model)
        of_width = {scheme.bits: scheme for scheme in reversed(errors.schemes) if scheme in table.column}
        for scheme in of_width.values():
            column = table.column[scheme]
            columns = np.where(table.reason[:, column] < 0, column, table.start)
            plan = loaded.with_schemes([table.schemes[each] for each in columns.tolist()])
            if plan not in self._anchors:
                self._anchors[plan] = errors.of_plan(plan)
            yield columns, self._anchors[plan]

    def _publish_evaluations(self) -> None:
        newest = islice(reversed(self.model.evaluations.items()), _EVALUATIONS_SHOWN)
        column = self.cost_table.column
        self.set_trait(
            "evaluation_state",
            [
                wire.pack_evaluation(evaluation, self.cost_table.columns_of(schemes), activations)
                for (_, schemes, activations), evaluation in newest
                if all(scheme in column for scheme in schemes)
            ],
        )
