"""Carriers: tensors of at most five dimensions that stand for tensors of more while a graph is rewritten."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from talaria_nb.graph_edits import add_before, arguments, is_static, tensors
from talaria_nb.permutations import MAX_RANK, permute_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.fx import Node

aten = torch.ops.aten


Rule: TypeAlias = "Callable[[Lowering, Node], Node | None]"
"""Computes an operator on carriers; it returns a carrier of the result, or None to give up."""


class Lowering:
    """The rewriting of one graph, node by node, in order.

    Parameters
    ----------
    rule_of
        Operator → how it is computed on carriers, None where nothing says how.
    """

    def __init__(self, rule_of: Callable[[Any], Rule | None]) -> None:
        self._rule_of = rule_of
        self.carriers: dict[Node, Node] = {}
        """Nodes of too many dimensions → their values in fewer."""
        self.several: dict[Node, Node] = {}
        """Nodes with several results → what replaces them, with the same number of results."""
        self.replaced: set[Node] = set()
        self.unknown: dict[Any, Node] = {}
        self.current: Node

    def visit(self, node: Node) -> None:
        """Rewrite a node if it, or what it works on, has too many dimensions."""
        concerned = [node, *node.all_input_nodes]
        picked = node.target is operator.getitem and arguments(node)[0] in self.several
        if node.op in {"placeholder", "get_attr"} or not (picked or any(is_high(each) for each in concerned)):
            return
        self.current = node
        if picked:
            self.replaced.add(node)
            self.replace(node, self.call(operator.getitem, self.several[arguments(node)[0]], arguments(node)[1]))
            return
        rule = None if node.op == "output" else self._rule_of(node.target)
        result = rule(self, node) if rule and is_static(node) else None
        if result is None:
            self.leave(node)
            return
        self.replaced.add(node)
        if len(tensors(node)) > 1 or isinstance(node.meta["val"], (list, tuple)):
            self.several[node] = result
        else:
            self.replace(node, result)

    def leave(self, node: Node) -> None:
        """Give an operator that has no rule its operands in the dimensions that it expects."""
        if node.op == "call_function" and node.target is not operator.getitem:
            self.unknown.setdefault(node.target, node)
        for before in node.all_input_nodes:
            if before in self.carriers:
                node.replace_input_with(before, self.shaped(before, before.meta["val"].shape))

    def replace(self, node: Node, result: Node) -> None:
        """Put a carrier, or its values in their own shape, in a node's place."""
        if is_high(node):
            self.carriers[node] = result
        else:
            node.replace_all_uses_with(self.shaped(result, node.meta["val"].shape))

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Add an operator before the current node, which it gets its source line from, and compute its shapes."""
        return add_before(self.current, target, *args, **kwargs)

    def shaped(self, node: Node, shape: Sequence[int]) -> Node:
        """Return the values of a node in another shape, without reshaping where they have it."""
        carrier = self.carriers.get(node, node)
        if tuple(carrier.meta["val"].shape) == tuple(shape):
            return carrier
        return self.call(aten.reshape.default, carrier, list(shape))

    def permuted(self, node: Node, shape: Sequence[int], order: Sequence[int]) -> Node:
        """Return a carrier of a permuted tensor; `shape` is the tensor's before."""
        carrier = self.carriers.get(node, node)
        for sizes, step in permute_steps(shape, order):
            carrier = self.call(aten.permute.default, self.shaped(carrier, sizes), list(step))
        return self.low(carrier)

    def low(self, node: Node) -> Node:
        """Return a carrier, flat where the values came in too many dimensions (a parameter)."""
        carrier = self.carriers.get(node, node)
        return self.shaped(carrier, [carrier.meta["val"].numel()]) if is_high(carrier) else carrier

    def expanded(self, node: Node, shape: Sequence[int]) -> Node:
        """Return a carrier of a tensor that is broadcast to a shape."""
        sizes = aligned_shape(node, len(shape))
        carrier = self.low(node)
        for axis, (size, wanted) in enumerate(zip(sizes, shape, strict=True)):
            if size != wanted:  # everything before this axis is expanded already
                before, after = math.prod(shape[:axis]), math.prod(sizes[axis + 1 :])
                carrier = self.call(
                    aten.expand.default, self.shaped(carrier, [before, 1, after]), [before, wanted, after]
                )
        return carrier


def aligned_shape(node: Node, rank: int) -> tuple[int, ...]:
    """Return the sizes of a tensor as one of so many dimensions, with ones before."""
    shape = tuple(node.meta["val"].shape)
    return (1,) * (rank - len(shape)) + shape


def shape_of(node: Any) -> tuple[int, ...]:
    """Return the sizes of an operator's result."""
    return tuple(node.meta["val"].shape)


def is_high(node: Node) -> bool:
    """Whether a result has more dimensions than Core ML holds."""
    return any(tensor.ndim > MAX_RANK for tensor in tensors(node))
