"""What a plan costs in accuracy, measured: its weights run in torch on data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from talaria_nb.errors import EvaluationError
from talaria_nb.metrics import name_of
from talaria_nb.plan import checked_plan
from talaria_nb.torch_weights import planned_module
from talaria_nb.trials import bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from talaria_nb.metrics import Metric
    from talaria_nb.plan import Plan


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured of one plan.

    Attributes
    ----------
    metric
        Name of the metric, or of the user's function.
    values
        Group → number; of data without groups, and of functions that return one number, the group is "all".
    standard_error
        Group → standard error of the mean over items, for metrics over data; empty for a user's own `eval_fn`.
    is_loss
        Whether it is a loss: 0 for no change, lower for better. What an `eval_fn` returns may be anything.
    """

    metric: str
    values: Mapping[str, float]
    standard_error: Mapping[str, float]
    is_loss: bool = True

    @property
    def grade(self) -> str:
        """How it is known: "measured"."""
        return "measured"

    @property
    def value(self) -> float:
        """The number of all groups together, or of the only one; the first where none is called "all"."""
        return self.values["all"] if "all" in self.values else next(iter(self.values.values()))


def evaluate(
    plan: Plan,
    data: Iterable[Any] | Mapping[str, Iterable[Any]] | None = None,
    metric: Metric = "mse",
    *,
    eval_fn: Callable[[torch.nn.Module], float | Mapping[str, float]] | None = None,
) -> Evaluation:
    """Measure what a plan does to a model's outputs, or to a task.

    The torch module runs with the plan's weights, dequantized; the result is kept with the plan and shown with it.

    Parameters
    ----------
    plan
        A plan for a model that was loaded from a torch module.
    data
        Inputs, each as `load` takes `example_inputs`; or a mapping of groups to such inputs, which are kept apart.
    metric
        As in `sensitivity`: how outputs differ from those of the original module.
    eval_fn
        In place of data and metric: a function that is given a module with the plan's weights, in eval mode, and
        returns a number or a mapping of groups to numbers (an accuracy, a word error rate).

    Returns
    -------
    Evaluation

    Raises
    ------
    EvaluationError
        If the model did not come from torch, the data do not fit it, the plan makes its outputs infinite or NaN, or
        `eval_fn` is no function or returned no finite numbers.
    PlanError
        If it is no plan.
    """
    checked_plan(plan, "evaluate()")
    if (data is None) == (eval_fn is None):
        raise EvaluationError("evaluate() needs either data, with a metric, or eval_fn.")
    if eval_fn is not None:
        result = _by_function(plan, eval_fn)
    else:
        assert data is not None  # noqa: S101 - checked above
        result = _on_data(plan, data, metric)
    plan.model.evaluations[plan.key] = result
    return result


def _on_data(plan: Plan, data: Iterable[Any] | Mapping[str, Iterable[Any]], metric: Metric) -> Evaluation:
    groups = dict(data) if isinstance(data, Mapping) else {"all": data}
    module = planned_module(plan)
    errors = {name: bench(plan.model, items, metric).compared_with(module) for name, items in groups.items()}
    for name, each in errors.items():
        broken = np.flatnonzero(~np.isfinite(each))
        if broken.size:
            group = f" of {name}" if len(errors) > 1 else ""
            message = (
                f"With this plan {type(module).__name__} returns infinite values or NaN for item {broken[0]}{group}, "
                "so its loss is not known. Give the weights that cause it more bits."
            )
            raise EvaluationError(message)
    if len(errors) > 1:
        errors = {"all": np.concatenate(list(errors.values())), **errors}
    return Evaluation(
        name_of(metric),
        {name: float(each.mean()) for name, each in errors.items()},
        {name: float(each.std(ddof=1) / len(each) ** 0.5) for name, each in errors.items() if len(each) > 1},
    )


def _by_function(plan: Plan, eval_fn: Callable[[torch.nn.Module], float | Mapping[str, float]]) -> Evaluation:
    if not callable(eval_fn):
        raise EvaluationError(f"eval_fn is a function of the compressed module, not {eval_fn!r:.80}.")
    with torch.no_grad():
        result = eval_fn(planned_module(plan))
    name = getattr(eval_fn, "__qualname__", type(eval_fn).__name__)
    groups = result if isinstance(result, Mapping) else {"all": result}
    try:
        values = {str(group): float(number) for group, number in groups.items()}
    except (TypeError, ValueError):
        raise EvaluationError(f"eval_fn {name} must return a number or a dict of numbers, not {result!r}.") from None
    if not values:
        raise EvaluationError(f"eval_fn {name} returned no numbers.")
    odd = next((group for group, number in values.items() if not np.isfinite(number)), None)
    if odd is not None:
        raise EvaluationError(f"eval_fn {name} returned {values[odd]} for {odd!r}: it must return finite numbers.")
    return Evaluation(name, values, {}, is_loss=False)
