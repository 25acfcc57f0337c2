"""Op → module path and lines of source code; constant → torch parameter.

torch.export records for every FX node the module it ran in and the Python stack that made it. `number_nodes` gives each
node a debug handle, which coremltools carries through all of its passes to the MIL ops; `source_map` reads it back. An
op that coremltools fused keeps the handle of the last node of the pattern only, so the others are found in the FX
graph: they are the nodes before it of which no op is left.
"""

from __future__ import annotations

import json
import os
import re
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from coremltools.converters.mil.mil.scope import ScopeSource
from torch.fx.experimental import proxy_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from coremltools.converters.mil.mil import Block, Function, Operation
    from numpy.typing import NDArray
    from torch.export import ExportedProgram
    from torch.fx import Node

_FRAME = re.compile(r'File "(?P<file>[^\n]+)", line (?P<line>\d+), in (?P<function>[^\n]+)\n\s*(?P<code>[^\n]*)')
_CALL_COUNT = re.compile(r"@\d+")
_TORCH = str(Path(torch.__file__).parent) + os.sep
_STANDARD_LIBRARY = str(Path(os.__file__).parent) + os.sep
_PACKAGE = re.compile(r".*[/\\](?:site|dist)-packages[/\\]([^/\\]+)")
_LEADERS = {"conv": "conv", "conv_transpose": "conv", "linear": "linear", "matmul": "matmul"}
"""Op types into which coremltools folds what follows them (batch norm, scale, bias) → start of their ATen name."""
_PASSES_THROUGH = frozenset(["_to_copy", "alias", "clone", "contiguous", "detach", "dropout", "getitem", "to"])
"""ATen names of nodes that compute nothing: where they are gone from the program, nothing was fused."""
_MAX_FUSED = 64
"""How many nodes before an op are looked at: the longest patterns that coremltools fuses (GELU, norms) have some 20."""
HANDLE_FILE = "executorch_debug_handle_mapping.json"
"""What `MLModel.save` writes into packages of models that were converted by torch.export with debug handles."""
_MAX_HANDLE_FILE_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of source code on the way to an op; the innermost frame comes last.

    Attributes
    ----------
    file, line, function, code
        As Python's tracebacks show them.
    is_user
        False for torch's own files; True for the user's code and for the libraries around it.
    """

    file: str
    line: int
    function: str
    code: str
    is_user: bool = True


@dataclass(frozen=True, slots=True)
class Origin:
    """One piece of code that an op was made from.

    Attributes
    ----------
    module
        Dotted path of the module that ran it.
    operator
        ATen name, such as "conv2d".
    frames
        Outermost first.
    """

    module: str
    operator: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class SourceMap:
    """Where every op came from.

    Attributes
    ----------
    class_names
        Module path → qualified class name, in the order of first use; always holds the root "".
    origins
        Op name → everything that was fused into it, for the ops whose origin is known. The first is the one that the
        op is named after (the conv of a conv with its batch norm), the others follow in the order they ran.
    parameters
        Const name → name of the torch parameter or buffer that it holds, unchanged but for precision and layout.
    folded
        Const name → name of the torch parameter or buffer that it was computed from (a conv's weight times the scale of
        its batch norm; rows of an embedding that do not depend on the input).
    handles
        Name of an op's first output → debug handle, for packages that carry them. They mean something only beside the
        exported program.
    """

    class_names: Mapping[str, str] = field(default_factory=lambda: {"": ""})
    origins: Mapping[str, tuple[Origin, ...]] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    folded: Mapping[str, str] = field(default_factory=dict)
    handles: Mapping[str, int] = field(default_factory=dict)

    def parents(self, op_name: str) -> tuple[Origin, ...]:
        """Return everything that was fused into an op, the leader first; empty where unknown."""
        return self.origins.get(op_name, ())

    def module_path(self, op_name: str) -> str:
        """Return the dotted path of the module that made an op, "" where unknown."""
        parents = self.parents(op_name)
        return parents[0].module if parents else ""

    def class_name(self, op_name: str) -> str:
        """Return the qualified class name of the module that made an op, "" where unknown."""
        return self.class_names.get(self.module_path(op_name), "")

    def frames(self, op_name: str) -> tuple[Frame, ...]:
        """Return the frames of an op, outermost first; empty where unknown."""
        parents = self.parents(op_name)
        return parents[0].frames if parents else ()

    def user_frame(self, op_name: str) -> Frame | None:
        """Return the innermost frame outside of torch itself, or the innermost of all.

        Frames of a library that the model's own code calls (einops) are passed over.
        """
        frames = self.frames(op_name)
        outside = [frame for frame in frames if frame.is_user]
        forward = [frame for frame in outside if frame.function == "forward"]
        own = [frame for frame in outside if forward and _package(frame) == _package(forward[-1])] or outside
        return own[-1] if own else frames[-1] if frames else None


@contextmanager
def whole_stacks() -> Iterator[None]:
    """Make torch.export record every line of the user's code, while it runs inside.

    By itself torch keeps the frames of functions named `forward` only, so that an op made in a helper or a lambda
    points at the call of it. The filter is torch's private method; where it is not as in torch 2.13, nothing is done.
    """
    tracer: Any = getattr(proxy_tensor, "_ModuleStackTracer", None)
    if not hasattr(tracer, "_filter_traceback_frames"):
        yield
        return
    own = vars(tracer).get("_filter_traceback_frames")
    tracer._filter_traceback_frames = lambda _, summary: _model_frames(summary)  # noqa: SLF001
    try:
        yield
    finally:
        if own is None:
            del tracer._filter_traceback_frames  # noqa: SLF001
        else:
            tracer._filter_traceback_frames = own  # noqa: SLF001


def _model_frames(summary: traceback.StackSummary) -> traceback.StackSummary:
    """Leave out what called the model, torch's machinery between its modules, and the standard library."""
    names = [frame.name == "forward" and not frame.filename.startswith(_TORCH) for frame in summary]
    first = names.index(True) if any(names) else 0
    return traceback.StackSummary.from_list([frame for frame in summary[first:] if _is_of_model(frame)])


def _is_of_model(frame: traceback.FrameSummary) -> bool:
    if frame.filename.startswith(_TORCH):
        return frame.name == "forward" and "/fx/" not in frame.filename.replace(os.sep, "/")
    standard = frame.filename.startswith(_STANDARD_LIBRARY) and not _PACKAGE.match(frame.filename)
    return not standard and not frame.filename.startswith("<")


def _package(frame: Frame) -> str:
    """Return the installed package that a frame belongs to, "" for code that is not installed."""
    match = _PACKAGE.match(frame.file)
    return match[1] if match else ""


def number_nodes(exported: ExportedProgram) -> None:
    """Give every node of an exported program a unique debug handle, in place."""
    for handle, node in enumerate(exported.graph.nodes):
        node.meta["debug_handle"] = handle


def source_map(exported: ExportedProgram, function: Function) -> SourceMap:
    """Link the ops and constants of a converted program to the nodes and parameters it was converted from.

    Parameters
    ----------
    exported
        Numbered by `number_nodes` before conversion.
    function
        What coremltools made of it.
    """
    graph = _Graph(exported, function)
    origins: dict[str, tuple[Origin, ...]] = {}
    for op in graph.runs:
        node = graph.node(op)
        if node is not None:
            origins[op.name] = tuple(graph.origin[parent] for parent in _parents(op, node, graph))
    parameters, folded = _constants(graph, exported)
    return SourceMap(graph.class_names, origins, parameters, folded)


def package_source_map(package_path: str | None) -> SourceMap:
    """Read what a package itself says about its ops: their debug handles, where it was saved with any.

    A file that is not as coremltools writes it is ignored: nothing but this depends on it.
    """
    path = Path(package_path or "") / HANDLE_FILE
    if not package_path or not path.is_file() or path.stat().st_size > _MAX_HANDLE_FILE_BYTES:
        return SourceMap()
    handles: dict[str, int] = {}
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))["mapping"]
        for handle, ops in mapping.items():
            for trail in ops:
                if handle.isdecimal():
                    handles[str(trail[-1]["Output"])] = int(handle)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return SourceMap()
    return SourceMap(handles=handles)


class _Graph:
    """An exported program beside what was converted from it."""

    def __init__(self, exported: ExportedProgram, function: Function) -> None:
        self.class_names: dict[str, str] = {"": ""}
        self.origin: dict[Node, Origin] = {}
        self.rank: dict[Node, int] = {}
        self._node_of: dict[int, Node] = {}
        inputs = set(exported.graph_signature.user_inputs)
        self.from_input: set[Node] = set()
        """Nodes whose values depend on the model's inputs; the others are folded into constants."""
        for rank, node in enumerate(exported.graph.nodes):
            path = ""
            for module_path, class_name in (node.meta.get("nn_module_stack") or {}).values():
                path = _CALL_COUNT.sub("", module_path)
                self.class_names[path] = self.class_names.get(path) or _qualified_name(class_name)
            self._node_of[node.meta["debug_handle"]] = node
            self.origin[node] = Origin(path, _aten_name(node), _parse(node.meta.get("stack_trace") or ""))
            self.rank[node] = rank
            if node.name in inputs or any(before in self.from_input for before in node.all_input_nodes):
                self.from_input.add(node)
        operations = list(_walk(function))
        self.runs = [op for op in operations if op.op_type != "const"]
        self.constants = [op for op in operations if op.op_type == "const"]
        self.kept = {self.node(op) for op in self.runs}
        """Nodes of which at least one op is left."""

    def node(self, op: Operation) -> Node | None:
        for handle in op.scopes.get(ScopeSource.EXIR_DEBUG_HANDLE, []):
            if handle in self._node_of:
                return self._node_of[handle]
        return None

    def vanished_before(self, node: Node) -> list[Node]:
        """List the nodes that lead to a node and of which no op is left, nearest first, placeholders among them."""
        found: dict[Node, None] = {}
        waiting = [node]
        for current in waiting:
            if len(found) >= _MAX_FUSED:
                break
            for before in current.all_input_nodes:
                if before not in found and before not in self.kept:
                    found[before] = None
                    waiting.append(before)
        return list(found)


def _walk(block: Block) -> Iterator[Operation]:
    for op in block.operations:
        for nested in op.blocks:
            yield from _walk(nested)
        yield op


def _parents(op: Operation, node: Node, graph: _Graph) -> list[Node]:
    """List the nodes that an op was made from, the one it is named after first."""
    fused = [
        before
        for before in graph.vanished_before(node)
        if before.op == "call_function" and before in graph.from_input and not _computes_nothing(before)
    ]
    everything = sorted([node, *fused], key=graph.rank.__getitem__)
    leader = _leader(op, node, everything)
    if op.op_type == "cast" and leader is node:
        # coremltools puts casts of a model's inputs before the op that reads them, and gives them that op's handle.
        for reader in op.outputs[0].child_ops:
            if reader.op_type != "cast" and graph.node(reader) is node:
                leader = _leader(reader, node, everything)
        return [leader]
    return [leader, *(parent for parent in everything if parent is not leader)]


def _leader(op: Operation, node: Node, parents: list[Node]) -> Node:
    """Find the node that a fused op is named after: a conv with its batch norm comes back as the batch norm."""
    start = _LEADERS.get(op.op_type)
    matching = [parent for parent in parents if start and _aten_name(parent).startswith(start)]
    return node if not matching or node in matching else matching[-1]


def _computes_nothing(node: Node) -> bool:
    if _aten_name(node) in _PASSES_THROUGH:
        return True
    before = node.all_input_nodes
    if len(before) != 1 or _aten_name(node) not in {"view", "reshape", "expand", "slice", "_unsafe_view"}:
        return False
    shapes = [getattr(each.meta.get("val"), "shape", None) for each in (node, before[0])]
    return shapes[0] is not None and shapes[0] == shapes[1]


def _aten_name(node: Node) -> str:
    name = getattr(node.target, "__name__", "") or str(node.target)
    return name.split(".", 1)[0]


def _constants(graph: _Graph, exported: ExportedProgram) -> tuple[dict[str, str], dict[str, str]]:
    """Link constants to torch parameters: those that hold one, and those that were computed from one."""
    signature = exported.graph_signature
    state = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    named = {f"{placeholder}{suffix}": name for placeholder, name in state.items() for suffix in ("", "_to_fp16")}
    parameters: dict[str, str] = dict(named)
    folded: dict[str, str] = {}
    for op in graph.constants:
        value = op.outputs[0].val
        if op.name in named or not isinstance(value, np.ndarray) or value.size < 2 or value.dtype.kind != "f":
            continue
        for reader in op.outputs[0].child_ops:
            node = graph.node(reader)
            if node is None:
                continue
            leader = _parents(reader, node, graph)[0]
            before = [*leader.all_input_nodes, *node.all_input_nodes, *graph.vanished_before(node)]
            names = list(dict.fromkeys(state[each.name] for each in before if each.name in state))
            tensors = {name: _tensor(exported, name) for name in names}
            tensors = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
            held = next((name for name, tensor in tensors.items() if _holds(value, tensor)), None)
            if held is not None:
                parameters[op.name] = held
            elif tensors:
                folded[op.name] = _folded_from(value, tensors, _role(op, reader))
            if held is not None or tensors:
                break
    return parameters, folded


def _tensor(exported: ExportedProgram, name: str) -> torch.Tensor:
    tensor = exported.state_dict[name] if name in exported.state_dict else exported.constants[name]
    return tensor.detach() if isinstance(tensor, torch.Tensor) else torch.empty(0, dtype=torch.int8)


def _holds(value: NDArray[np.floating], tensor: torch.Tensor) -> bool:
    """Whether a constant is a parameter as it is, transposed or with other axes of length 1."""
    if tensor.numel() != value.size:
        return False
    array = tensor.cpu().float().numpy().astype(value.dtype)
    as_is, turned = [size for size in value.shape if size > 1], [size for size in array.T.shape if size > 1]
    if as_is == turned[::-1] and np.array_equal(array.reshape(value.shape), value):
        return True
    return as_is == turned and np.array_equal(array.T.reshape(value.shape), value)


def _role(op: Operation, reader: Operation) -> str:
    """Return the name of the parameter as which a constant is read: "weight", "bias", …."""
    return next((name for name, var in reader.inputs.items() if var is op.outputs[0]), "")


def _folded_from(value: NDArray[np.floating], tensors: Mapping[str, torch.Tensor], role: str) -> str:
    """Choose the parameter that a computed constant belongs to: by shape, then by role, then by size."""
    same = [name for name, tensor in tensors.items() if tuple(tensor.shape) == value.shape]
    same = same or [name for name, tensor in tensors.items() if tensor.numel() == value.size]
    in_role = [name for name in same if name.rsplit(".", 1)[-1] == role]
    largest = max(tensors, key=lambda name: tensors[name].numel())
    return (in_role or same or [largest])[0]


def _qualified_name(class_name: object) -> str:
    return class_name if isinstance(class_name, str) else f"{type(class_name).__module__}.{class_name!s}"


def _parse(stack_trace: str) -> tuple[Frame, ...]:
    return tuple(
        Frame(
            match["file"],
            int(match["line"]),
            match["function"],
            match["code"].strip(),
            is_user=not match["file"].startswith(_TORCH),
        )
        for match in _FRAME.finditer(stack_trace)
    )
