"""Which operators coremltools has no translation for, and what torch says they are made of."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind
from torch._decomp import decomposition_table
from torch._ops import OpOverload

from talaria_nb import translations  # noqa: F401 - importing it registers them

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.export import ExportedProgram
    from torch.fx import Node


def missing(exported: ExportedProgram) -> dict[Any, Node]:
    """Find the operators that coremltools has no translation for, and the first node of each."""
    found: dict[Any, Node] = {}
    for node in exported.graph.nodes:
        if node.op == "call_function" and node.target not in found and not is_translated(node):
            found[node.target] = node
    return found


def decomposition(op: object) -> Callable[..., Any] | None:
    """Return torch's own decomposition of an operator into others, None where it has none."""
    if not isinstance(op, OpOverload) or (torch.Tag.core in op.tags and has_translation(op)):
        return None  # torch would decompose most of its core operators only into those of its own compiler
    return _composites().get(op) or decomposition_table.get(op)  # the second leads into operators of torch's compiler


@cache
def _composites() -> dict[Any, Callable[..., Any]]:
    """Return the decompositions of operators that torch itself writes in terms of others (`diff`)."""
    return dict(torch.export.default_decompositions().items())  # type: ignore[no-untyped-call]


def is_translated(node: Node) -> bool:
    """Whether coremltools has a translation for what a node calls."""
    return has_translation(node.target)


def has_translation(op: object) -> bool:
    """Whether coremltools has a translation for an operator."""
    # coremltools' own look-up: it cleans the name once when it reads the graph, and refuses what is not found then.
    return sanitize_op_kind(getattr(op, "__name__", "")) in _TORCH_OPS_REGISTRY.name_to_func_mapping
