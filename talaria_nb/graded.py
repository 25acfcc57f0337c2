"""What a plan costs in accuracy as one number, always with its grade: by the best that is known of the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.error_table import error_table
from talaria_nb.errors import PlanError
from talaria_nb.sqnr import weight_noise

if TYPE_CHECKING:
    from talaria_nb.error_table import ErrorTable, Grade
    from talaria_nb.plan import Plan


@dataclass(frozen=True, slots=True)
class GradedError:
    """An error of a whole plan.

    Attributes
    ----------
    value
        0 for no change; of a user's own measure whatever that is.
    grade
        "measured": the plan's weights were run on data. "estimated": the loss of each weight, added up. "weight": how
        far weights move, which says nothing about outputs.
    what
        What the number is, in words.
    """

    value: float
    grade: Grade
    what: str

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.grade}: {self.what})"


def graded_error(plan: Plan, errors: ErrorTable | None = None) -> GradedError:
    """Tell what a plan costs in accuracy.

    Parameters
    ----------
    plan
        Any plan.
    errors
        What to add up where the plan itself was not measured, such as a sensitivity.

    Returns
    -------
    GradedError
        What `evaluate` measured of this very plan; else the sum of `errors`; else the squared error of all weights over
        the sum of their squares, for which all values are looked at.

    Raises
    ------
    PlanError
        If the errors are of another model, or know nothing of a scheme of the plan.
    """
    if plan.evaluation is not None:
        return GradedError(plan.evaluation.value, "measured", plan.evaluation.metric)
    if errors is None:
        noise = weight_noise(plan)
        total = float(noise.signal.sum())
        value = float(noise.squared_error.sum()) / total if total else 0.0
        return GradedError(value, "weight", "squared error of all weights over the sum of their squares")
    schemes = tuple(dict.fromkeys(plan.scheme_of_weight))
    of_weights = error_table(plan.model, schemes, errors).of(plan.model, schemes)
    column = {scheme: place for place, scheme in enumerate(schemes)}
    chosen = of_weights[np.arange(len(of_weights)), [column[scheme] for scheme in plan.scheme_of_weight]]
    unknown = np.flatnonzero(np.isnan(chosen))
    if unknown.size:
        row = int(unknown[0])
        message = (
            f"The errors know nothing of {plan.model.program.weights.name[row]} as {plan.scheme_of_weight[row].label}. "
            "Find them again with that scheme among schemes=."
        )
        raise PlanError(message)
    return GradedError(float(chosen.sum()), errors.grade, errors.what)
