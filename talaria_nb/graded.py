"""What a plan costs in accuracy as one number, always with its grade: by the best that is known of the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.error_table import error_table
from talaria_nb.errors import PlanError
from talaria_nb.sqnr import weight_noise
from talaria_nb.subjects import starting_schemes

if TYPE_CHECKING:
    from talaria_nb.error_table import ErrorTable, Grade
    from talaria_nb.evaluation import Evaluation
    from talaria_nb.plan import Plan


@dataclass(frozen=True, slots=True)
class GradedError:
    """An error of a whole plan.

    Attributes
    ----------
    value
        0 for no change; of a user's own measure whatever that is.
    grade
        "measured": the plan's weights were run on data. "estimated": the losses of single weights, composed by what
        each does to the outputs where that is known, else added up. "weight": how far weights move, which says nothing
        about outputs.
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
        What tells of the plan where it was not measured itself, such as a sensitivity.

    Returns
    -------
    GradedError
        What `evaluate` measured of this very plan; else what `errors` say of it as a whole: `Sensitivity.total`, or
        their sum; else the squared error of all weights over the sum of their squares, for which all values are looked
        at.

    Raises
    ------
    PlanError
        If the errors are of another model, or know nothing of a scheme of the plan.
    """
    if plan.evaluation is not None:
        return _measured(plan.evaluation)
    if errors is not None:
        return _estimated(plan, errors)
    noise = weight_noise(plan)
    total = float(noise.signal.sum())
    value = float(noise.squared_error.sum()) / total if total else 0.0
    return GradedError(value, "weight", "squared error of all weights over the sum of their squares")


def graded_errors(
    plan: Plan, other: Plan, errors: ErrorTable | None = None
) -> tuple[GradedError, GradedError] | tuple[None, None]:
    """Tell what two plans cost in accuracy, if that is known of both in one measure, and without a look at values.

    Parameters
    ----------
    plan, other
        Plans of one model.
    errors
        What tells of both where not both were measured by one metric.

    Returns
    -------
    tuple
        By what `evaluate` measured of both; else what `errors` say of each as a whole; else of plans that were found,
        what is known of them since. A plan that
        changes nothing has no loss in any measure that is a loss. (None, None) where there is nothing in common.
    """
    both = plan.evaluation, other.evaluation
    if both[0] is not None and both[1] is not None and both[0].metric == both[1].metric:
        return _measured(both[0]), _measured(both[1])
    if errors is not None:
        return _estimated(plan, errors), _estimated(other, errors)
    mine, theirs = plan.known_loss, other.known_loss
    mine, theirs = mine or _nothing(plan, other), theirs or _nothing(other, plan)
    if mine is None or theirs is None or (mine.grade, mine.what) != (theirs.grade, theirs.what):
        return None, None
    return mine, theirs


def _nothing(plan: Plan, other: Plan) -> GradedError | None:
    """Return no loss at all, in the measure of another plan, if this one changes nothing."""
    known, evaluation = other.known_loss, other.evaluation
    is_loss = evaluation is None or evaluation.is_loss
    if known is None or not is_loss or plan.int8_ops:
        return None
    unchanged = plan.scheme_of_weight == starting_schemes(plan.model.program)
    return GradedError(0.0, known.grade, known.what) if unchanged else None


def _measured(evaluation: Evaluation) -> GradedError:
    return GradedError(evaluation.value, "measured", evaluation.metric)


def _estimated(plan: Plan, errors: ErrorTable) -> GradedError:
    table = error_table(plan.model, tuple(dict.fromkeys(plan.scheme_of_weight)), errors)
    unknown = np.flatnonzero(np.isnan(table.of_weights(plan)))
    if unknown.size:
        row = int(unknown[0])
        message = (
            f"The errors know nothing of {plan.model.program.weights.name[row]} as {plan.scheme_of_weight[row].label}. "
            "Find them again with that scheme among schemes=."
        )
        raise PlanError(message)
    return GradedError(table.of_plan(plan), table.grade, table.what_of_plan)
