"""torch.nn.Module → MIL by torch.jit.trace: the road for modules that torch.export cannot take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import coremltools as ct
import numpy as np
import torch
import torch.utils._pytree as pytree
from coremltools.converters.mil.mil.scope import ScopeSource

from talaria_nb import translations  # noqa: F401 - importing it registers them
from talaria_nb.read import mil_function
from talaria_nb.source import Origin, SourceMap

if TYPE_CHECKING:
    from collections.abc import Callable

    from coremltools.converters.mil.mil import Block, Function

_DTYPES = {torch.int64: np.int32, torch.int32: np.int32, torch.bool: np.bool_, torch.float64: np.float32}


class _Flat(torch.nn.Module):
    """A module that takes and returns tensors only, whatever nests of containers the one inside uses."""

    def __init__(
        self, module: torch.nn.Module, spec: pytree.TreeSpec, leaves: list[Any], flatten: Callable[..., Any]
    ) -> None:
        super().__init__()
        self.module = module
        self._spec = spec
        self._leaves = leaves
        self._flatten = flatten

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, torch.Tensor) else leaf for leaf in self._leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        return tuple(self._flatten(self.module(*args, **kwargs)))


def convert_traced(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    deployment_target: str,
    flatten: Callable[[Any], list[torch.Tensor]],
) -> tuple[ct.models.MLModel, SourceMap]:
    """Trace a module and convert what was traced.

    Parameters
    ----------
    module
        In eval mode and single precision.
    args, kwargs
        Example inputs. What is not a tensor is fixed in the trace.
    deployment_target
        "iOS16" or newer.
    flatten
        Lists the tensors of the module's output.

    Returns
    -------
    tuple of (MLModel, SourceMap)
        The source map knows modules, but no lines: TorchScript keeps none that coremltools passes on.
    """
    leaves, spec = pytree.tree_flatten((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    with torch.no_grad():
        flat = _Flat(module, spec, leaves, flatten)
        traced = torch.jit.trace(flat, tuple(tensors), check_trace=False, strict=False)  # type: ignore[no-untyped-call]
    inputs = [ct.TensorType(shape=tensor.shape, dtype=_DTYPES.get(tensor.dtype, np.float32)) for tensor in tensors]
    target = ct.target[deployment_target]
    mlmodel = ct.convert(traced, inputs=inputs, minimum_deployment_target=target, skip_model_load=True)
    return mlmodel, _modules(mil_function(mlmodel), module)


def _modules(function: Function, module: torch.nn.Module) -> SourceMap:
    """Read the module of each op from coremltools' scopes, dropping paths that the module does not have."""
    classes = {path: f"{type(each).__module__}.{type(each).__qualname__}" for path, each in module.named_modules()}
    origins: dict[str, tuple[Origin, ...]] = {}

    def visit(block: Block) -> None:
        for op in block.operations:
            for nested in op.blocks:
                visit(nested)
            names = op.scopes.get(ScopeSource.TORCHSCRIPT_MODULE_NAME, [])
            if op.op_type == "const" or not names:
                continue
            path = ".".join(str(name) for name in names if name)
            path = path.removeprefix("module").removeprefix(".")
            while path not in classes:
                path = path.rpartition(".")[0]
            origins[op.name] = (Origin(path, op.op_type, ()),)

    visit(function)
    used = {origin.module for (origin,) in origins.values()}
    return SourceMap({path: name for path, name in classes.items() if path == "" or path in used}, origins)
