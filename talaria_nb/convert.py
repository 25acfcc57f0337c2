"""torch.nn.Module → MIL, by torch.export and coremltools."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import coremltools as ct
import torch
import torch.utils._pytree as pytree
from coremltools.converters.mil.mil.scope import ScopeSource

from talaria_nb.errors import ConversionError, LoadError
from talaria_nb.quiet import quiet
from talaria_nb.read import mil_function
from talaria_nb.repairs import repair
from talaria_nb.source import SourceMap, number_nodes, source_map, whole_stacks

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Conversion:
    """A converted model and how it came about.

    Attributes
    ----------
    mlmodel
        The uncompressed coremltools model, not compiled.
    source_map
        Where each op came from.
    repairs
        What had to be rewritten before coremltools could convert the model; empty for most.
    """

    mlmodel: ct.models.MLModel
    source_map: SourceMap
    repairs: tuple[str, ...]


def convert(module: torch.nn.Module, example_inputs: object, deployment_target: str, *, progress: bool) -> Conversion:
    """Export a module and convert it, as it would run in eval mode and single precision.

    Parameters
    ----------
    module
        Left exactly as it is: training flags, dtypes and parameters.
    example_inputs
        One tensor, a tuple or list of positional inputs, or a mapping of keyword inputs.
    deployment_target
        "iOS16" or newer.
    progress
        Whether coremltools shows its progress bars.

    Raises
    ------
    LoadError
        If the inputs are not of these kinds, or the module cannot run on them.
    ConversionError
        If the module runs, but cannot be copied, exported or converted.
    """
    args, kwargs = _as_call(example_inputs)
    twin = _eval_twin(module)
    if any(parameter.dtype in _HALF for parameter in module.parameters()):
        args, kwargs = _to_float32(args), _to_float32(kwargs)
    with quiet(progress=progress):
        exported = _export(twin, args, kwargs)
        repairs = repair(exported)
        number_nodes(exported)
        try:
            mlmodel = ct.convert(exported, minimum_deployment_target=ct.target[deployment_target], skip_model_load=True)
        except Exception as error:
            message = (
                f"coremltools cannot convert {type(module).__name__}: {_first_line(error)}. "
                "Replace that operation in the model, or convert a part of the model without it."
            )
            raise ConversionError(message) from error
    function = mil_function(mlmodel)
    origins = source_map(exported, function)
    # Keep MLModel.save from writing a file of debug handles, which mean nothing outside of this conversion.
    function._essential_scope_sources.remove(ScopeSource.EXIR_DEBUG_HANDLE)  # noqa: SLF001
    return Conversion(mlmodel, origins, repairs)


def _as_call(example_inputs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
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


def _eval_twin(module: torch.nn.Module) -> torch.nn.Module:
    """Copy the structure of a module, but share its tensors, so that eval mode does not touch the user's object.

    Half-precision tensors are replaced by float32 ones: Core ML stores float16 whatever the module held, and
    coremltools converts only single precision.
    """
    shared: dict[int, object] = {}
    for submodule in module.modules():
        # vars() too: some modules keep plain tensors, which deepcopy would copy or, with a gradient, refuse.
        own = (*submodule.parameters(recurse=False), *submodule.buffers(recurse=False), *vars(submodule).values())
        for value in own:
            if isinstance(value, torch.nn.Parameter) and value.dtype in _HALF:
                shared[id(value)] = torch.nn.Parameter(value.detach().float(), requires_grad=False)
            elif isinstance(value, torch.Tensor):
                shared[id(value)] = value.detach().float() if value.dtype in _HALF else value
    try:
        return copy.deepcopy(module, shared).eval()
    except Exception as error:
        message = (
            f"{type(module).__name__} cannot be copied ({_first_line(error)}), and load() works on a copy so as not to "
            "change your module. Keep what cannot be copied (locks, open files) outside of it."
        )
        raise ConversionError(message) from error


def _to_float32(value: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.float() if tensor.dtype in _HALF else tensor, value)


def _export(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.export.ExportedProgram:
    try:
        with whole_stacks():
            exported: torch.export.ExportedProgram = torch.export.export(module, args, kwargs).run_decompositions({})
    except Exception as error:
        name = type(module).__name__
        try:
            with torch.no_grad():
                module(*copy.deepcopy(args), **copy.deepcopy(kwargs))
        except Exception as run_error:
            message = (
                f"{name} does not run on these example_inputs ({_describe(args, kwargs)}): {_first_line(run_error)}. "
                "Give inputs that model(*inputs) accepts."
            )
            raise LoadError(message) from run_error
        message = f"torch.export cannot trace {name}: {_first_line(error)}."
        raise ConversionError(message) from error
    return exported


def _describe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    named = [("", value) for value in args] + [(f"{key}=", value) for key, value in kwargs.items()]
    return ", ".join(
        f"{name}{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        if isinstance(value, torch.Tensor)
        else f"{name}{type(value).__name__}"
        for name, value in named
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
