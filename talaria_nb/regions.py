"""Regions of exported programs in which gradients or autocast are switched, written into the graph around them.

torch.export keeps `torch.no_grad()` and `torch.autocast()` as operators that call a graph of their own. torch would
write those graphs out itself, but forgets on the way which line each node came from, and coremltools knows no bfloat16,
to which autocast casts. Neither means anything to Core ML: there are no gradients, and coremltools chooses the
precision of every op.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Node

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_GRAPH_ARGUMENT: dict[Any, int] = {
    torch.ops.higher_order.wrap_with_set_grad_enabled: 1,
    torch.ops.higher_order.wrap_with_autocast: 4,
}
"""Operator → which of its arguments is the graph of the region; what the region reads follows."""

_DTYPE_CHECK = torch.ops.aten._assert_tensor_metadata.default  # noqa: SLF001 - its public name
"""Checks at run time that a tensor has the dtype it had under autocast."""


def inline_regions(exported: ExportedProgram) -> ExportedProgram:
    """Write out the regions of an exported program.

    Parameters
    ----------
    exported
        Is not changed.

    Returns
    -------
    ExportedProgram
        With the same parameters; `exported` itself if it has no regions.
    """
    if not any(node.target in _GRAPH_ARGUMENT for node in exported.graph.nodes):
        return exported
    module = _inlined(exported.graph_module)
    signature = copy.deepcopy(exported.graph_signature)
    results: Any = module.graph.output_node().args[0]
    for spec, result in zip(signature.output_specs, results, strict=True):
        if isinstance(result, Node):
            spec.arg.name = result.name
    inlined: ExportedProgram = exported._update(module, signature)  # noqa: SLF001 - its constructor asks for the same
    return inlined


def _inlined(original: GraphModule) -> GraphModule:
    module = GraphModule(original, copy.deepcopy(original.graph))
    for node in list(module.graph.nodes):
        if node.target in _GRAPH_ARGUMENT:
            _inline(module, node)
    for check in module.graph.find_nodes(op="call_function", target=_DTYPE_CHECK):
        module.graph.erase_node(check)
    module.recompile()
    return module


def _inline(module: GraphModule, node: Node) -> None:
    """Replace one region by its nodes."""
    graph = module.graph
    before: Any = node.args
    called, *given = before[_GRAPH_ARGUMENT[node.target] :]
    region = _inlined(getattr(module, called.target))
    values = dict(zip(region.graph.find_nodes(op="placeholder"), given, strict=True))
    with graph.inserting_before(node):
        results: Any = graph.graph_copy(region.graph, values)
    for item in list(node.users):  # each takes one of the results out of a tuple
        place: Any = item.args[1]
        item.replace_all_uses_with(results[place])
        graph.erase_node(item)
    graph.erase_node(node)
    if not called.users:
        graph.erase_node(called)
