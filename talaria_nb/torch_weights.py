"""A plan inside the torch module: which parameter each weight is, and a copy of the module with the planned values.

Accuracy is measured there. Constants of the converted program are followed back to the parameter that they hold: as it
is, transposed, some of its rows (the gates of a recurrent layer in Core ML's order, the used part of a table of
positions), or multiplied along one axis (a convolution with its batch norm).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from talaria_nb.convert import eval_twin
from talaria_nb.distortion import dequantized
from talaria_nb.errors import EvaluationError
from talaria_nb.load import Model
from talaria_nb.schemes import Float16
from talaria_nb.trace import own_buffers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from talaria_nb.plan import Plan
    from talaria_nb.schemes import Scheme


_RELATIVE, _ABSOLUTE = 2**-9, 2**-23
"""How far a float16 product may be from ours: some roundings (2**-11 each), and two of the smallest steps."""
_SHOWN = 3


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """Where the values of a weight lie in a torch parameter.

    Attributes
    ----------
    parameter
        Its name.
    turned
        Whether the weight has the parameter's axes in reverse order; the rest is said of the parameter turned so.
    rows
        The parameter's rows that the weight holds, in the weight's order; None for all in order. A row that stands
        there several times gets the mean of its copies. int64.
    scale
        What the values were multiplied by; broadcasts to the parameter.
    """

    parameter: str
    turned: bool = False
    rows: NDArray[np.int64] | None = None
    scale: NDArray[np.float64] | None = None

    def put(self, parameter: NDArray[np.floating], weight: NDArray[np.floating]) -> None:
        """Change a parameter in place so that the weight takes given values; float32, any layout of either."""
        laid = parameter.T if self.turned else parameter
        if self.rows is not None:
            total, count = np.zeros_like(laid), np.zeros((len(laid), *[1] * (laid.ndim - 1)), dtype=laid.dtype)
            np.add.at(total, self.rows, weight.reshape(-1, *laid.shape[1:]))
            np.add.at(count, self.rows, 1)
            np.divide(total, count, out=laid, where=count != 0)
        elif self.scale is None:
            laid[...] = weight.reshape(laid.shape)
        else:
            np.divide(weight.reshape(laid.shape), self.scale, out=laid, where=self.scale != 0, casting="same_kind")

    def curvature(self, parameter: NDArray[np.floating]) -> NDArray[np.floating]:
        """Turn second derivatives by a parameter into those by the weight, in the turned parameter's layout."""
        laid = parameter.T if self.turned else parameter
        if self.rows is not None:
            return laid[self.rows]
        if self.scale is None:
            return laid
        curvature: NDArray[np.floating] = np.zeros_like(laid)
        np.divide(laid, self.scale**2, out=curvature, where=self.scale != 0, casting="same_kind")
        return curvature


class Links(NamedTuple):
    """The links of a model's weights.

    Attributes
    ----------
    links
        Weight name → its link.
    missing
        Weight name → why it has none.
    """

    links: Mapping[str, Link]
    missing: Mapping[str, str]


def find_links(model: Model) -> Links:
    """Follow every weight of a model back to its torch parameter.

    Raises
    ------
    EvaluationError
        If it is no model, or did not come from a torch module.
    """
    if not isinstance(model, Model):  # notebooks are untyped
        message = f"Only what tnb.load() returns can be measured, not a value of type {type(model).__name__}."
        raise EvaluationError(message)
    module = model.module
    if module is None:
        message = (
            f"{model.program.name} was not loaded from a torch module, so it cannot be run here: only the error of its "
            "weights is known. Load the module it was converted from."
        )
        raise EvaluationError(message)
    tensors = _tensors(module)
    arrays = {
        name: tensor.detach().float().cpu().numpy() for name, tensor in tensors.items() if tensor.is_floating_point()
    }
    links: dict[str, Link] = {}
    missing: dict[str, str] = {}
    taken: dict[int, list[tuple[str, Link]]] = {}
    for weight in model.program.weights.name:
        likely = model.source_map.parameters.get(weight) or model.source_map.folded.get(weight) or ""
        # What was folded has several parents (the two matrices of a recurrent layer), and only one was noted.
        names = sorted(arrays, key=lambda name: name != likely)
        value = model.weight_value(weight)
        link = next((found for name in names if (found := find_link(value, arrays[name], name))), None)
        if link is None:
            missing[weight] = "it is no torch parameter, and how it was computed from them is not known"
            continue
        holders = taken.setdefault(id(tensors[link.parameter]), [])
        sharing = next((other for other, theirs in holders if _overlap(theirs, link)), None)
        if sharing is not None:
            missing[weight] = f"it holds the same values of the parameter {link.parameter} as the weight {sharing}"
            continue
        holders.append((weight, link))
        links[weight] = link
    return Links(links, missing)


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers by name; a tied one under each of its names."""
    return dict(chain(module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)))


def find_link(weight: NDArray[np.floating], parameter: NDArray[np.floating], name: str) -> Link | None:
    """Find how a weight came from a parameter, float32; None if in a way that is not known."""
    for turned in (False, True):
        laid = parameter.T if turned else parameter
        if _long_axes(laid.shape) == _long_axes(weight.shape):
            value = weight.reshape(laid.shape)
            if np.array_equal(laid.astype(weight.dtype), value):
                return Link(name, turned)
            for scale in _scales(value.astype(np.float64), laid.astype(np.float64)):
                return Link(name, turned, scale=scale)
        width = math.prod(laid.shape[1:])
        if laid.ndim > 1 and width and weight.size % width == 0:
            rows = _rows(weight.reshape(-1, width), laid.astype(weight.dtype).reshape(-1, width))
            if rows is not None:
                return Link(name, turned, rows)
    return None


def _long_axes(shape: Iterable[int]) -> list[int]:
    return [size for size in shape if size > 1]


def _scales(value: NDArray[np.float64], laid: NDArray[np.float64]) -> Iterable[NDArray[np.float64]]:
    """Yield the factor of each place along one axis, where the value is the parameter times such factors."""
    for axis in range(laid.ndim):
        others = tuple(other for other in range(laid.ndim) if other != axis)
        power = (laid**2).sum(axis=others, keepdims=True)
        product = (laid * value).sum(axis=others, keepdims=True)
        scale = np.divide(product, power, out=np.zeros_like(product), where=power != 0)
        if scale.any() and np.allclose(value, laid * scale, rtol=_RELATIVE, atol=_ABSOLUTE):
            yield scale


def _rows(weight: NDArray[np.floating], parameter: NDArray[np.floating]) -> NDArray[np.int64] | None:
    """Find each row of a weight among a parameter's rows, equal ones in turn; None unless all are there."""
    places: dict[bytes, deque[int]] = {}
    for index, row in enumerate(parameter):
        places.setdefault(row.tobytes(), deque()).append(index)
    found = []
    for row in weight:
        equal = places.get(row.tobytes())
        if equal is None:
            return None
        found.append(equal[0])
        equal.rotate(-1)
    return np.array(found, dtype=np.int64)


def _overlap(one: Link, other: Link) -> bool:
    """Tell whether two links of one parameter hold any of its values both."""
    if one.rows is None or other.rows is None or one.turned != other.turned:
        return True
    return bool(np.isin(one.rows, other.rows).any())


def module_with(
    module: torch.nn.Module, values: Mapping[str, NDArray[np.floating]], links: Mapping[str, Link]
) -> torch.nn.Module:
    """Copy a module with other values for some weights; all that does not change is shared with the original.

    Parameters
    ----------
    module
        The module; it is not changed.
    values
        Weight name → its values, in the weight's layout.
    links
        Weight name → its link.

    Returns
    -------
    torch.nn.Module
        In eval mode and single precision, on the CPU or where its parameters are.
    """
    tensors = _tensors(module)
    changed: dict[int, tuple[torch.Tensor, NDArray[np.floating]]] = {}
    for weight, each in values.items():
        tensor = tensors[links[weight].parameter]
        if id(tensor) not in changed:
            changed[id(tensor)] = tensor, tensor.detach().to("cpu", torch.float32, copy=True).numpy()
        links[weight].put(changed[id(tensor)][1], each.astype(np.float32))
    replaced = {
        key: torch.nn.Parameter(torch.from_numpy(array).to(tensor.device), requires_grad=False)
        if isinstance(tensor, torch.nn.Parameter)
        else torch.from_numpy(array).to(tensor.device)
        for key, (tensor, array) in changed.items()
    }
    twin = eval_twin(module, replaced)
    if isinstance(twin, torch.jit.ScriptModule):  # its copy has tensors of its own, which are no objects of Python
        own = _tensors(twin)
        for parameter in {links[weight].parameter for weight in values}:
            own[parameter].detach().copy_(replaced[id(tensors[parameter])])
    return twin


def compressed(plan: Plan, missing: Mapping[str, str]) -> dict[str, Scheme]:
    """Return the weights that a plan compresses, in file order, and how.

    Raises
    ------
    EvaluationError
        If it compresses one that has no link, as in `Links.missing`.
    """
    chosen = {weight: scheme for weight, scheme in plan.schemes.items() if not isinstance(scheme, Float16)}
    lost = [f"{weight} ({missing[weight]})" for weight in chosen if weight in missing]
    if lost:
        more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
        message = (
            f"The plan compresses weights that cannot be put back into the torch module: {', '.join(lost[:_SHOWN])}"
            f"{more}. Keep them at tnb.Float16() to measure the rest."
        )
        raise EvaluationError(message)
    return chosen


def planned_module(plan: Plan) -> torch.nn.Module:
    """Copy a plan's torch module with the weights that the plan gives it.

    What stays float16 keeps the parameter's own values: its rounding is not counted, and a plan of float16 alone is the
    module itself. int8 activations are not imitated.

    Parameters
    ----------
    plan
        A plan for a model that was loaded from a torch module.

    Returns
    -------
    torch.nn.Module
        In eval mode. It shares with the original whatever does not change.

    Raises
    ------
    EvaluationError
        If the model did not come from a torch module, or a compressed weight has no known torch parameter.
    """
    model = plan.model
    links, missing = find_links(model)
    weights = model.program.weights
    chosen = compressed(plan, missing)
    assert model.module is not None  # noqa: S101 - find_links refuses
    axes = dict(zip(weights.name, weights.channel_axes, strict=True))
    values = {
        weight: dequantized(model.weight_value(weight), scheme, channel_axes=axes[weight])
        for weight, scheme in chosen.items()
    }
    planned = module_with(model.module, values, links)
    own_buffers(planned)
    return planned
