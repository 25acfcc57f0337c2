"""Edits of exported graphs: what is put in has shapes, and the source line of what it helps to replace."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch._ops import OpOverload
    from torch.export import ExportedProgram


def arguments(node: Node) -> tuple[Any, ...]:
    """Return the arguments of an operator as untyped as FX graphs are."""
    return node.args


def tidy(exported: ExportedProgram) -> None:
    """Make an exported program whole again whose graph was changed: its outputs may be other nodes now."""
    graph = exported.graph
    for spec, result in zip(exported.graph_signature.output_specs, graph.output_node().args[0], strict=True):
        if isinstance(result, Node):
            spec.arg.name = result.name
    graph.eliminate_dead_code()
    graph.lint()
    exported.graph_module.recompile()


def add_before(node: Node, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Node:
    """Add an operator before a node that it helps to replace, with its shapes."""
    with node.graph.inserting_before(node):
        new = node.graph.call_function(target, args, kwargs)
    new.meta = dict(node.meta)
    plain_args, plain_kwargs = torch.fx.node.map_arg((args, kwargs), lambda each: each.meta["val"])
    with _fake_mode(node), torch.no_grad():
        new.meta["val"] = target(*plain_args, **plain_kwargs)
    return new


def replace_node(node: Node, target: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Put an operator with the same shapes, dtype and source line in a node's place."""
    with node.graph.inserting_before(node):
        new = node.graph.call_function(target, args, kwargs)
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


def add_constant(exported: ExportedProgram, node: Node, tensor: torch.Tensor) -> Node:
    """Put a tensor into a program as a constant, before a node that it helps to replace."""
    name = next(
        name for number in itertools.count() if (name := f"folded_{node.name}_{number}") not in exported.constants
    )
    exported.graph_module.register_buffer(name, tensor)
    exported.constants[name] = tensor
    with node.graph.inserting_before(node):
        constant = node.graph.get_attr(name)
    constant.meta = {**node.meta, "val": _fake_mode(node).from_tensor(tensor, static_shapes=True)}
    return constant


def _fake_mode(node: Node) -> FakeTensorMode:
    """Return the mode that computes shapes alone; of the graph's output, its operands know it."""
    concerned = (tensor for each in (node, *node.all_input_nodes) for tensor in tensors(each))
    return next(tensor.fake_mode for tensor in concerned if isinstance(tensor, FakeTensor))


def operand(node: Node) -> Node:
    """Return the tensor that an operator works on, which is its first argument."""
    first = node.args[0]
    assert isinstance(first, Node)  # noqa: S101 - for the type checker: these operators take a tensor first
    return first


def tensors(node: Node) -> list[torch.Tensor]:
    """Return the results of an operator that are tensors, as their shapes and dtypes."""
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return [each for each in values if isinstance(each, torch.Tensor)]


def is_static(node: Node) -> bool:
    """Whether no size of an operator's results and operands depends on inputs."""
    concerned = (tensor for each in (node, *node.all_input_nodes) for tensor in tensors(each))
    return all(isinstance(size, int) for tensor in concerned for size in tensor.shape)


def has_static_operand(node: Node) -> bool:
    """Whether no size of the tensor that an operator works on depends on inputs."""
    return all(isinstance(size, int) for size in operand(node).meta["val"].shape)
