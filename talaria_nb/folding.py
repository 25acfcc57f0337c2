"""What of an exported graph needs no input to be computed: it is computed once, and becomes a constant."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch._ops import OpOverload

from talaria_nb.decompositions import is_translated
from talaria_nb.graph_edits import add_constant, tidy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch.export import ExportedProgram
    from torch.fx import Node

MAX_FOLDED = 1 << 22
"""Elements of the largest constant that is computed before conversion: the mask of 2,048 tokens."""
_FACTORIES = frozenset(["arange", "empty", "full", "ones", "scalar_tensor", "zeros"])
"""ATen names of operators that make a tensor from nothing; alone they are left to coremltools."""


def fold(exported: ExportedProgram, applied: dict[str, None]) -> None:
    """Compute what depends on no input and no parameter, and put the results into the program as constants."""
    graph = exported.graph
    values = _known(exported)
    computed = _compute(graph.nodes, values)
    edge = [
        node
        for node in graph.nodes
        if node in computed
        and isinstance(values[node], torch.Tensor)
        and (node.all_input_nodes or not is_translated(node))
        and any(user not in computed for user in node.users)
    ]
    if edge:
        _put_constants(exported, edge, values)
        applied["constants: what depends on no input and no parameter was computed beforehand"] = None


def fold_parameters(exported: ExportedProgram, applied: dict[str, None]) -> None:
    """Compute operators that coremltools lacks where they depend on parameters only (resized position embeddings)."""
    lacking = [node for node in exported.graph.nodes if node.op == "call_function" and not is_translated(node)]
    # Weights that training quantized would become float; by a trace they stay as they are.
    if not lacking or any(node.target is torch.ops.aten.dequantize.self for node in lacking):
        return
    leading = set(lacking)
    for node in reversed(exported.graph.nodes):
        if node in leading:
            leading.update(node.all_input_nodes)
    values = _known(exported, parameters=True)
    _compute([node for node in exported.graph.nodes if node in leading], values)
    edge = [node for node in lacking if isinstance(values.get(node), torch.Tensor)]
    if edge:
        _put_constants(exported, edge, values)
        for node in edge:
            applied[f"{node.target}: computed beforehand, because it depends on parameters only"] = None


def _compute(nodes: Iterable[Node], values: dict[Node, Any]) -> set[Node]:
    """Compute the nodes, given in order, that depend on known values only; the results join the known values."""
    computed: set[Node] = set()
    for node in nodes:
        if node not in values and _foldable(node, values):
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            with torch.no_grad():
                values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
            computed.add(node)
    return computed


def _put_constants(exported: ExportedProgram, nodes: Iterable[Node], values: Mapping[Node, Any]) -> None:
    for node in nodes:
        constant = add_constant(exported, node, values[node].detach().contiguous().clone())
        node.replace_all_uses_with(constant, delete_user_cb=lambda user: user.op != "output")
    tidy(exported)


def _known(exported: ExportedProgram, *, parameters: bool = False) -> dict[Node, Any]:
    """Return the values of the constants and of the integer buffers (position ids) that the program never changes.

    With `parameters` also those of the parameters and of all other buffers that it never changes.
    """
    signature = exported.graph_signature
    changed = set(signature.buffers_to_mutate.values())
    known: dict[Node, Any] = {}
    for node in exported.graph.nodes:
        value = None
        if node.op == "get_attr":
            value = getattr(exported.graph_module, node.target, None)
        elif node.op == "placeholder":
            target = signature.inputs_to_lifted_tensor_constants.get(node.name)
            buffer = signature.inputs_to_buffers.get(node.name)
            parameter = signature.inputs_to_parameters.get(node.name)
            if parameter is not None and parameters:
                value = exported.state_dict[parameter]
            elif buffer is not None and buffer not in changed:
                value = exported.state_dict.get(buffer, exported.constants.get(buffer))
                integer = isinstance(value, torch.Tensor) and not value.is_floating_point()
                value = value if integer or parameters else None
            elif target is not None:
                value = exported.constants.get(target)
        if isinstance(value, torch.Tensor) and type(value).__name__ != "FakeTensor":
            known[node] = value
    return known


def _foldable(node: Node, values: Mapping[Node, Any]) -> bool:
    if node.op != "call_function" or any(before not in values for before in node.all_input_nodes):
        return False
    if not isinstance(node.target, OpOverload):
        return bool(node.all_input_nodes) and node.target is operator.getitem
    schema = node.target._schema  # noqa: SLF001 - the only place that tells
    if schema.is_mutable or torch.Tag.nondeterministic_seeded in node.target.tags:
        return False
    name = node.target.__name__.split(".", 1)[0]
    if not node.all_input_nodes and name not in _FACTORIES:
        return False
    results = node.meta.get("val")
    tensors = results if isinstance(results, (list, tuple)) else [results]
    return all(
        isinstance(each, torch.Tensor)
        and all(isinstance(size, int) for size in each.shape)
        and each.numel() <= MAX_FOLDED
        for each in tensors
    )
