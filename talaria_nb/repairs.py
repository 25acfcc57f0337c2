"""Repairs of exported graphs: what coremltools cannot convert, written as what it can.

Three steps, each only where needed:

1. `REPAIRS` rewrites single operators. Each entry names the ATen operator that breaks, why, and the rewrite.
2. What depends on no input and no parameter (masks, position ids) is computed once and becomes a constant.
3. Operators that coremltools has no translation for, or fails at, are decomposed by torch's own decompositions.

A repaired node keeps the `meta` of the one it replaces, so that it still points at the user's source line, and computes
the same values.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind
from torch._decomp import decomposition_table
from torch._ops import OpOverload
from torch.fx import Node

from talaria_nb import translations  # noqa: F401 - importing it registers them

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from torch.export import ExportedProgram
    from torch.fx import Graph

aten = torch.ops.aten

_MAX_FOLDED = 1 << 22
"""Elements of the largest constant that is computed before conversion: the mask of 2,048 tokens."""
_MAX_ROUNDS = 6
"""How often decompositions are decomposed again; torch's own need two or three."""
_FACTORIES = frozenset(["arange", "empty", "full", "ones", "scalar_tensor", "zeros"])
"""ATen names of operators that make a tensor from nothing; alone they are left to coremltools."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One operator that coremltools 9 has no translation for.

    Attributes
    ----------
    why
        What breaks without the repair, in a few words.
    rewrite
        Replaces the node in its graph.
    """

    why: str
    rewrite: Callable[[Graph, Node], None]


def _drop(graph: Graph, node: Node) -> None:
    node.replace_all_uses_with(_operand(node))
    graph.erase_node(node)


def _erase(graph: Graph, node: Node) -> None:
    graph.erase_node(node)


def _new_ones_to_full(graph: Graph, node: Node) -> None:
    dtype = node.kwargs.get("dtype") or _operand(node).meta["val"].dtype
    _replace(graph, node, aten.full.default, (node.args[1], dtype is torch.bool or 1), {"dtype": dtype})


def _logical(boolean: OpOverload, bitwise: OpOverload) -> Callable[[Graph, Node], None]:
    def rewrite(graph: Graph, node: Node) -> None:
        _replace(graph, node, boolean if node.meta["val"].dtype is torch.bool else bitwise, node.args, {})

    return rewrite


def _addcmul(graph: Graph, node: Node) -> None:
    x, left, right = node.args
    with graph.inserting_before(node):
        product = graph.call_function(aten.mul.Tensor, (left, right))
        product.meta = dict(node.meta)
        if node.kwargs.get("value", 1) != 1:
            product = graph.call_function(aten.mul.Tensor, (product, node.kwargs["value"]))
            product.meta = dict(node.meta)
    _replace(graph, node, aten.add.Tensor, (x, product), {})


def _operand(node: Node) -> Node:
    """Return the tensor that an operator works on, which is its first argument."""
    operand = node.args[0]
    assert isinstance(operand, Node)  # noqa: S101 - for the type checker: these operators take a tensor first
    return operand


def _replace(graph: Graph, node: Node, target: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with graph.inserting_before(node):
        new = graph.call_function(target, args, kwargs)
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    graph.erase_node(node)


REPAIRS: Mapping[OpOverload, Repair] = {
    aten.alias.default: Repair("coremltools has no `alias`; it computes nothing (swin)", _drop),
    aten._assert_tensor_metadata.default: Repair(  # noqa: SLF001 - its public name
        "a run-time check of dtypes; it computes nothing", _erase
    ),
    aten.new_ones.default: Repair("coremltools has no `new_ones` (the masks of transformers' BERT)", _new_ones_to_full),
    aten.__and__.Tensor: Repair(
        "coremltools has no `__and__` (transformers' masks)",
        _logical(aten.logical_and.default, aten.bitwise_and.Tensor),
    ),
    aten.__or__.Tensor: Repair(
        "coremltools has no `__or__` (transformers' sliding windows)",
        _logical(aten.logical_or.default, aten.bitwise_or.Tensor),
    ),
    aten.__xor__.Tensor: Repair(
        "coremltools has no `__xor__`", _logical(aten.logical_xor.default, aten.bitwise_xor.Tensor)
    ),
    aten.addcmul.default: Repair("coremltools has no `addcmul` (layer scale)", _addcmul),
}


@dataclass(frozen=True, slots=True)
class Repaired:
    """An exported program that coremltools can convert, as far as that can be told beforehand.

    Attributes
    ----------
    exported
        The program.
    repairs
        What was repaired, one sentence each.
    """

    exported: ExportedProgram
    repairs: tuple[str, ...]


def repair(exported: ExportedProgram, decompose: Collection[OpOverload] = ()) -> Repaired:
    """Rewrite an exported program so that coremltools can convert it.

    Parameters
    ----------
    exported
        Without in-place operators (`run_decompositions({})`). Changed in place.
    decompose
        Operators that coremltools translates by name, but failed at in this program.
    """
    applied: dict[str, None] = {}
    wanted = set(decompose)
    for _ in range(_MAX_ROUNDS):
        _rewrite(exported, applied)
        _fold(exported, applied)
        found = {node.target for node in exported.graph.nodes if node.op == "call_function"}
        table = {op: how for op in found & wanted | missing(exported).keys() if (how := decomposition(op))}
        if not table:
            break
        exported = exported.run_decompositions(table)
        for op in table:
            why = "coremltools fails at it here" if op in wanted else "coremltools has no translation for it"
            applied[f"{op}: decomposed by torch, because {why}"] = None
    return Repaired(exported, tuple(applied))


def missing(exported: ExportedProgram) -> dict[Any, Node]:
    """Find the operators that coremltools has no translation for, and the first node of each."""
    found: dict[Any, Node] = {}
    for node in exported.graph.nodes:
        if node.op == "call_function" and node.target not in found and not _translated(node):
            found[node.target] = node
    return found


def decomposition(op: object) -> Callable[..., Any] | None:
    """Return torch's own decomposition of an operator into others, None where it has none."""
    if not isinstance(op, OpOverload) or torch.Tag.core in op.tags:
        return None  # torch would decompose its core operators only into those of its own compiler
    return _composites().get(op) or decomposition_table.get(op)  # the second leads into operators of torch's compiler


@cache
def _composites() -> dict[Any, Callable[..., Any]]:
    """Return the decompositions of operators that torch itself writes in terms of others (`diff`)."""
    return dict(torch.export.default_decompositions().items())  # type: ignore[no-untyped-call]


def _translated(node: Node) -> bool:
    # coremltools' own look-up: it cleans the name once when it reads the graph, and refuses what is not found then.
    return sanitize_op_kind(getattr(node.target, "__name__", "")) in _TORCH_OPS_REGISTRY.name_to_func_mapping


def _rewrite(exported: ExportedProgram, applied: dict[str, None]) -> None:
    graph = exported.graph
    changed = False
    for node in list(graph.nodes):
        entry = REPAIRS.get(node.target) if node.op == "call_function" else None
        if entry is not None:
            entry.rewrite(graph, node)
            applied[f"{node.target}: {entry.why}"] = None
            changed = True
    if changed:
        for spec, result in zip(exported.graph_signature.output_specs, graph.output_node().args[0], strict=True):
            if isinstance(result, Node):
                spec.arg.name = result.name
        graph.lint()
        exported.graph_module.recompile()


def _fold(exported: ExportedProgram, applied: dict[str, None]) -> None:
    """Compute what depends on no input and no parameter, and put the results into the program as constants."""
    graph = exported.graph
    values = _known(exported)
    computed: set[Node] = set()
    for node in graph.nodes:
        if node not in values and _foldable(node, values):
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            with torch.no_grad():
                values[node] = node.target(*args, **kwargs)
            computed.add(node)
    edge = [
        node
        for node in graph.nodes
        if node in computed
        and isinstance(values[node], torch.Tensor)
        and (node.all_input_nodes or not _translated(node))
        and any(user not in computed for user in node.users)
    ]
    for node in edge:
        name = f"folded_{node.name}"
        tensor = values[node].detach().contiguous().clone()
        exported.graph_module.register_buffer(name, tensor)
        exported.constants[name] = tensor
        with graph.inserting_before(node):
            constant = graph.get_attr(name)
        constant.meta = dict(node.meta)
        node.replace_all_uses_with(constant, delete_user_cb=lambda user: user.op != "output")
    if edge:
        graph.eliminate_dead_code()
        graph.lint()
        exported.graph_module.recompile()
        applied["constants: what depends on no input and no parameter was computed beforehand"] = None


def _known(exported: ExportedProgram) -> dict[Node, Any]:
    """Return the values of the constants and of the integer buffers (position ids) that the program never changes."""
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
            if buffer is not None and buffer not in changed:
                value = exported.state_dict.get(buffer, exported.constants.get(buffer))
                value = value if isinstance(value, torch.Tensor) and not value.is_floating_point() else None
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
        and each.numel() <= _MAX_FOLDED
        for each in tensors
    )
