"""Tensors of more than five dimensions, which Core ML cannot hold, rewritten as tensors of at most five.

Every such tensor of an exported graph is kept as a *carrier*: a tensor of fewer dimensions with the same values in the
same row-major order (`carriers.py`). `rank_rules.py` says how each operator is computed on carriers. The results are
those of the original operators, element for element.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from talaria_nb.carriers import Lowering, is_high
from talaria_nb.graph_edits import tidy
from talaria_nb.rank_rules import rule_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

aten = torch.ops.aten


def lower(exported: ExportedProgram) -> dict[Any, Node]:
    """Rewrite an exported program so that no tensor has more than `MAX_RANK` dimensions, in place.

    Returns
    -------
    dict of operator to node
        The operators on such tensors that it has no rewrite for, and the first node of each; they stay as they are.
    """
    if not any(is_high(node) for node in exported.graph.nodes):
        return {}
    lowering = Lowering(rule_of)
    nodes = list(exported.graph.nodes)
    for node in nodes:
        if node.target is aten.view.default:
            node.target = aten.reshape.default  # a carrier's memory may lie in another order
        lowering.visit(node)
    for node in reversed(nodes):
        if not node.users and (node in lowering.replaced):
            exported.graph.erase_node(node)  # attention counts as random, and so never as dead code
    tidy(exported)
    return lowering.unknown


def highest(exported: ExportedProgram) -> Node | None:
    """Return the first node whose result has more dimensions than Core ML holds, None where there is none."""
    return next((node for node in exported.graph.nodes if is_high(node)), None)
