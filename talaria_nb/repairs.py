"""Repairs of exported graphs: what coremltools cannot convert, written as what it can.

Each entry of `REPAIRS` names the ATen operator that breaks, why, and the rewrite. A rewrite keeps the node's `meta`, so
that the repaired op still points at the user's source line, and computes the same values as the operator it replaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch._ops import OpOverload
    from torch.export import ExportedProgram
    from torch.fx import Graph

aten = torch.ops.aten


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


def _to_bitwise_and(graph: Graph, node: Node) -> None:
    boolean = node.meta["val"].dtype is torch.bool
    _replace(graph, node, aten.logical_and.default if boolean else aten.bitwise_and.Tensor, node.args, {})


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
    aten.__and__.Tensor: Repair("coremltools has no `__and__` (the masks of transformers' BERT)", _to_bitwise_and),
}


def repair(exported: ExportedProgram) -> tuple[str, ...]:
    """Rewrite an exported program in place so that coremltools can convert it.

    Returns
    -------
    tuple of str
        What was repaired: one sentence for each entry of the table that applied.
    """
    graph = exported.graph
    applied: dict[str, None] = {}
    for node in list(graph.nodes):
        entry = REPAIRS.get(node.target) if node.op == "call_function" else None
        if entry is not None:
            entry.rewrite(graph, node)
            applied[f"{node.target}: {entry.why}"] = None
    if applied:
        graph.lint()
        exported.graph_module.recompile()
    return tuple(applied)
