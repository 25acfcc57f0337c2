"""How a torch module is called, and the tensors in what it returns."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree

from talaria_nb.errors import LoadError

HALF = (torch.float16, torch.bfloat16)
"""What Core ML's converter takes no inputs of."""


def as_call(example_inputs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and keyword arguments that example inputs stand for; raises LoadError for other kinds."""
    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, (tuple, list)):
        return tuple(example_inputs), {}
    if example_inputs is None:
        message = "A torch module needs example_inputs: a tensor, a tuple of them, or a dict of keyword inputs."
    else:
        kind = type(example_inputs).__name__
        message = f"example_inputs is of type {kind}; give a tensor, a tuple of them, or a dict of keyword inputs."
    raise LoadError(message)


def named_arguments(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return all arguments of a call by the names that the module's forward gives them, as far as it names them."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except ValueError:  # of a module that was traced
        return kwargs
    names = [each.name for each in parameters if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def to_float32(value: Any) -> Any:
    """Return the same nest of containers with float32 tensors for those of half precision."""
    return pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.float() if tensor.dtype in HALF else tensor, value)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """List the tensors in any nest of containers, dataclasses and plain objects, in order."""
    return _tensors(value, set())


def _tensors(value: Any, seen: set[int]) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if id(value) in seen:
        return []
    seen.add(id(value))
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, (tuple, list)):
        parts = list(value)
    elif hasattr(value, "__dict__") and not isinstance(value, (type, torch.nn.Module)):
        parts = list(vars(value).values())
    else:
        slots = getattr(type(value), "__slots__", ())
        parts = (
            [getattr(value, slot) for slot in slots if hasattr(value, slot)] if dataclasses.is_dataclass(value) else []
        )
    return [tensor for part in parts for tensor in _tensors(part, seen)]


def describe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Name the shapes and dtypes of arguments."""
    named = [("", value) for value in args] + [(f"{key}=", value) for key, value in kwargs.items()]
    return ", ".join(
        f"{name}{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        if isinstance(value, torch.Tensor)
        else f"{name}{type(value).__name__}"
        for name, value in named
    )
