"""How far a module's outputs are from what they were: the losses that accuracy is measured by, all 0 for no change."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch.nn import functional

from talaria_nb.calls import tensors_in
from talaria_nb.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Metric: TypeAlias = "str | Callable[[Any, Any], float]"
"""A name from `METRICS`, or a function of what the module returned with the plan and without it, lower for better."""


@dataclass(frozen=True, slots=True)
class Loss:
    """One of the losses.

    Attributes
    ----------
    description
        What it is, with its range.
    between
        (outputs, reference) → 0-d tensor, float64: the mean over all elements, vectors or positions.
    direction
        From the reference, a random scalar; its gradient, squared and halved, has the loss's second-order change as its
        mean (Gauss-Newton). None where the loss has no gradient.
    """

    description: str
    between: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    direction: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None


def _squared(outputs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return (outputs - reference).square().mean()


def _cosine(outputs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return 1 - functional.cosine_similarity(outputs, reference, dim=-1).mean()


def _divergence(outputs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    theirs = functional.log_softmax(reference, dim=-1)
    return (theirs.exp() * (theirs - functional.log_softmax(outputs, dim=-1))).sum(dim=-1).mean()


def _disagreement(outputs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return (outputs.argmax(dim=-1) != reference.argmax(dim=-1)).double().mean()


def _signs(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, like.shape, generator=generator).to(like) * 2 - 1


def _squared_direction(reference: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    # The loss is |Δy|² / n: a random sum of y with signs, times √(2/n), has 2/n·(∂y)² as its mean square.
    return (reference * _signs(reference.detach(), generator)).sum() * sqrt(2 / reference.numel())


def _cosine_direction(reference: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    # 1 - cos is ½|Δu|² of the unit vectors u.
    unit = functional.normalize(reference, dim=-1)
    vectors = unit.numel() // unit.shape[-1]
    return (unit * _signs(unit.detach(), generator)).sum() / sqrt(vectors)


def _divergence_direction(reference: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    # Fisher information: gradients of the log-likelihood of labels drawn from the module's own distribution. Signs keep
    # the positions of one batch apart.
    log_likelihood = functional.log_softmax(reference.reshape(-1, reference.shape[-1]), dim=-1)
    labels = torch.multinomial(log_likelihood.detach().exp(), 1, generator=generator)
    drawn = log_likelihood.gather(1, labels)
    return (drawn * _signs(drawn.detach(), generator)).sum() / sqrt(len(drawn))


METRICS: Mapping[str, Loss] = {
    "mse": Loss("mean squared difference of the outputs", _squared, _squared_direction),
    "cosine": Loss("1 - mean cosine similarity along the last axis", _cosine, _cosine_direction),
    "kl": Loss(
        "Kullback-Leibler divergence along the last axis, of the softmax of outputs, nats",
        _divergence,
        _divergence_direction,
    ),
    "top1": Loss("share of positions at which another class of the last axis is the first", _disagreement, None),
}
"""Name → loss. Several outputs count by their mean; integer outputs do not count."""


def loss(metric: Metric, outputs: Any, reference: Any, inputs: Mapping[str, Any]) -> float:
    """Compute a metric of what a module returned.

    Parameters
    ----------
    metric
        See `Metric`.
    outputs, reference
        What the module returned, as it returned it. The named metrics read what `counted` finds in it.
    inputs
        The arguments that it was called with, by name.

    Raises
    ------
    EvaluationError
        If the metric is unknown, or a user's own returned no number.
    """
    if isinstance(metric, str):
        between = named(metric).between
        pairs = zip(counted(outputs, inputs), counted(reference, inputs), strict=True)
        return float(torch.stack([between(one.double(), other.double()) for one, other in pairs]).mean())
    if not callable(metric):  # notebooks are untyped
        raise EvaluationError(f"A metric is one of {', '.join(METRICS)} or your own function, not {metric!r:.80}.")
    value = metric(outputs, reference)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise EvaluationError(
            f"The metric {name_of(metric)} must return one number, lower for better, not {type(value).__name__}."
        ) from None


def named(metric: str) -> Loss:
    """Look a metric up by its name; raises EvaluationError for an unknown one."""
    found = METRICS.get(metric)
    if found is None:
        message = f"There is no metric {metric!r}. Use one of {', '.join(METRICS)}, or a function of your own."
        raise EvaluationError(message)
    return found


def name_of(metric: Metric) -> str:
    """Return the name to show for a metric."""
    return metric if isinstance(metric, str) else getattr(metric, "__qualname__", type(metric).__name__)


def counted(outputs: Any, inputs: Mapping[str, Any]) -> list[torch.Tensor]:
    """List the floating tensors in what a module returned, at least one-dimensional, without what is padding.

    With an input named attention_mask, as transformers name it, of shape (items, positions), vectors at the positions
    that it masks are left out: what a model says of padding means nothing, and moves more than all else.
    """
    found = (tensor for tensor in tensors_in(outputs) if tensor.is_floating_point())
    tensors = [tensor if tensor.dim() else tensor.reshape(1) for tensor in found]
    mask = inputs.get("attention_mask")
    if not isinstance(mask, torch.Tensor) or mask.dim() != len(("items", "positions")):
        return tensors
    of_positions = [tensor.dim() > mask.dim() and tensor.shape[: mask.dim()] == mask.shape for tensor in tensors]
    return [tensor[mask != 0] if by else tensor for tensor, by in zip(tensors, of_positions, strict=True)]
