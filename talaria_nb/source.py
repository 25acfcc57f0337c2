"""Op → module path and lines of source code.

torch.export records for every FX node the module it ran in and the Python stack that made it. `number_nodes` gives each
node a debug handle, which coremltools carries through all of its passes to the MIL ops; `source_map` reads it back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coremltools.converters.mil.mil.scope import ScopeSource
from torch.fx import Node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coremltools.converters.mil.mil import Function
    from torch.export import ExportedProgram

_FRAME = re.compile(r'File "(?P<file>[^\n]+)", line (?P<line>\d+), in (?P<function>[^\n]+)\n\s*(?P<code>[^\n]*)')
_CALL_COUNT = re.compile(r"@\d+")
_FUSING_OP_TYPES = ("conv", "conv_transpose", "linear")
"""Op types into which coremltools folds the batch norm, scale or bias that follows them."""
_MAX_FUSED = 5


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of source code on the way to an op; the innermost frame comes last."""

    file: str
    line: int
    function: str
    code: str


@dataclass(frozen=True, slots=True)
class _Origin:
    module: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class SourceMap:
    """Where every op came from.

    Attributes
    ----------
    class_names
        Module path → qualified class name, in the order of first use; always holds the root "".
    origins
        Op name → module path and frames, for the ops whose origin is known.
    parameters
        Const name → name of the torch parameter or buffer that it holds, unchanged but for its precision.
    """

    class_names: Mapping[str, str] = field(default_factory=lambda: {"": ""})
    origins: Mapping[str, _Origin] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)

    def module_path(self, op_name: str) -> str:
        """Return the dotted path of the module that made an op, "" where unknown."""
        origin = self.origins.get(op_name)
        return origin.module if origin else ""

    def frames(self, op_name: str) -> tuple[Frame, ...]:
        """Return the frames of an op, outermost first; empty where unknown."""
        origin = self.origins.get(op_name)
        return origin.frames if origin else ()

    def user_frame(self, op_name: str) -> Frame | None:
        """Return the innermost frame outside of torch itself, or the innermost of all."""
        frames = self.frames(op_name)
        outside = [frame for frame in frames if "/torch/" not in frame.file.replace("\\", "/")]
        return outside[-1] if outside else frames[-1] if frames else None


def number_nodes(exported: ExportedProgram) -> None:
    """Give every node of an exported program a unique debug handle, in place."""
    for handle, node in enumerate(exported.graph.nodes):
        node.meta["debug_handle"] = handle


def source_map(exported: ExportedProgram, function: Function) -> SourceMap:
    """Link the ops of a converted program to the nodes it was converted from.

    Parameters
    ----------
    exported
        Numbered by `number_nodes` before conversion.
    function
        What coremltools made of it.
    """
    class_names: dict[str, str] = {"": ""}
    node_of: dict[int, Node] = {}
    origin_of: dict[Node, _Origin] = {}
    for node in exported.graph.nodes:
        path = ""
        for module_path, class_name in (node.meta.get("nn_module_stack") or {}).values():
            path = _CALL_COUNT.sub("", module_path)
            class_names[path] = class_names.get(path) or _qualified_name(class_name)
        node_of[node.meta["debug_handle"]] = node
        origin_of[node] = _Origin(path, _parse(node.meta.get("stack_trace") or ""))
    origins: dict[str, _Origin] = {}
    for op in function.operations:
        for handle in op.scopes.get(ScopeSource.EXIR_DEBUG_HANDLE, []):
            if handle in node_of:
                origins[op.name] = origin_of[_leader(node_of[handle], op.op_type)]
    return SourceMap(class_names, origins, _parameters(exported))


def _parameters(exported: ExportedProgram) -> dict[str, str]:
    """List the names that coremltools gives to the constants it makes of parameters and buffers."""
    signature = exported.graph_signature
    state = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    return {f"{placeholder}{suffix}": name for placeholder, name in state.items() for suffix in ("", "_to_fp16")}


def _leader(node: Node, op_type: str) -> Node:
    """Find the node that a fused op is named after: a conv with its batch norm comes back as the batch norm."""
    candidate = node
    for _ in range(_MAX_FUSED):
        if getattr(candidate.target, "__name__", "").startswith((op_type, "convolution")):
            return candidate
        before = candidate.args[0] if candidate.args else None
        if op_type not in _FUSING_OP_TYPES or not isinstance(before, Node):
            return node
        candidate = before
    return node


def _qualified_name(class_name: object) -> str:
    return class_name if isinstance(class_name, str) else f"{type(class_name).__module__}.{class_name!s}"


def _parse(stack_trace: str) -> tuple[Frame, ...]:
    return tuple(
        Frame(match["file"], int(match["line"]), match["function"], match["code"].strip())
        for match in _FRAME.finditer(stack_trace)
    )
