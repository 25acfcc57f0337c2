"""Which steps of torch's graph each converted op and constant was made from.

Before conversion every step of the graph (a node of an exported program, or of a TorchScript graph) has a handle that
coremltools carries through all of its passes to the MIL ops; `link` reads it back. An op that coremltools fused keeps
the handle of the last step of the pattern only, so the others are found in the graph: they are the steps before it of
which no op is left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from coremltools.converters.mil.mil.scope import ScopeSource

from talaria_nb.coreml import walk
from talaria_nb.source import Origin, SourceMap, parse_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from coremltools.converters.mil.mil import Function, Operation
    from numpy.typing import NDArray
    from torch.export import ExportedProgram
    from torch.fx import Node

_CALL_COUNT = re.compile(r"@\d+")
_LEADERS = {"conv": "conv", "conv_transpose": "conv", "linear": "linear", "matmul": "matmul"}
"""Op types into which coremltools folds what follows them (batch norm, scale, bias) → start of their ATen name."""
_PASSES_THROUGH = frozenset(["_to_copy", "alias", "clone", "contiguous", "detach", "dropout", "getitem", "to"])
"""ATen names of steps that compute nothing: where they are gone from the program, nothing was fused."""
_MAX_FUSED = 64
"""How many steps before an op are looked at: the longest patterns that coremltools fuses (GELU, norms) have some 20."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One node of the graph that was converted.

    Attributes
    ----------
    rank
        Its place in the order of execution.
    origin
        The code that made it.
    inputs
        The steps whose values it reads.
    runs
        False for what only holds a value: inputs, parameters, constants.
    from_input
        Whether its value depends on the model's inputs; others are folded into constants.
    shape
        Of its value, where that is one tensor of known shape.
    parameter
        Name of the torch parameter or buffer that it holds, "" if none.
    """

    rank: int
    origin: Origin
    inputs: tuple[Step, ...]
    runs: bool
    from_input: bool
    shape: tuple[int, ...] | None = None
    parameter: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Lineage:
    """The graph that was converted.

    Attributes
    ----------
    steps
        Handle → step.
    handle
        Reads the handles of an MIL op that was converted from this graph.
    class_names
        As in `SourceMap`.
    tensor
        Gives a parameter's or buffer's values by name.
    const_names
        Names that coremltools gives to constants that hold a parameter → that parameter, as far as they are sure.
    """

    steps: Mapping[Hashable, Step]
    handles: Callable[[Operation], list[Hashable]]
    class_names: Mapping[str, str]
    tensor: Callable[[str], torch.Tensor]
    const_names: Mapping[str, str]


def number_nodes(exported: ExportedProgram) -> None:
    """Give every node of an exported program a unique debug handle, in place."""
    for handle, node in enumerate(exported.graph.nodes):
        node.meta["debug_handle"] = handle


def exported_lineage(exported: ExportedProgram) -> Lineage:
    """Describe an exported program, numbered by `number_nodes` before it was converted."""
    signature = exported.graph_signature
    state = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    inputs = set(signature.user_inputs)
    class_names = {"": ""}
    steps: dict[Node, Step] = {}
    for rank, node in enumerate(exported.graph.nodes):
        path = ""
        for module_path, class_name in (node.meta.get("nn_module_stack") or {}).values():
            path = _CALL_COUNT.sub("", module_path)
            class_names[path] = class_names.get(path) or _qualified_name(class_name)
        before = tuple(steps[each] for each in node.all_input_nodes)
        steps[node] = Step(
            rank,
            Origin(path, _aten_name(node), parse_stack(node.meta.get("stack_trace") or "")),
            before,
            runs=node.op == "call_function",
            from_input=node.name in inputs or any(each.from_input for each in before),
            shape=getattr(node.meta.get("val"), "shape", None),
            parameter=state.get(node.name, ""),
        )

    def tensor(name: str) -> torch.Tensor:
        found = exported.state_dict[name] if name in exported.state_dict else exported.constants[name]
        return found.detach() if isinstance(found, torch.Tensor) else torch.empty(0, dtype=torch.int8)

    return Lineage(
        {node.meta["debug_handle"]: step for node, step in steps.items()},
        lambda op: op.scopes.get(ScopeSource.EXIR_DEBUG_HANDLE, []),
        class_names,
        tensor,
        {f"{placeholder}{suffix}": name for placeholder, name in state.items() for suffix in ("", "_to_fp16")},
    )


def link(lineage: Lineage, function: Function) -> SourceMap:
    """Link the ops and constants of a converted program to the steps and parameters it was converted from.

    Parameters
    ----------
    lineage
        The graph that was converted.
    function
        What coremltools made of it.
    """
    graph = _Graph(lineage, function)
    origins: dict[str, tuple[Origin, ...]] = {}
    for op in graph.runs:
        step = graph.step(op)
        parents = _parents(op, step, graph) if step and step.runs else _first_reader(op, graph)
        if parents:
            origins[op.name] = tuple(parent.origin for parent in parents)
    parameters, folded = _constants(graph)
    return SourceMap(lineage.class_names, origins, parameters, folded)


class _Graph:
    """The graph that was converted, beside what was made of it."""

    def __init__(self, lineage: Lineage, function: Function) -> None:
        self.lineage = lineage
        operations = list(walk(function))
        self.runs = [op for op in operations if op.op_type != "const"]
        self.constants = [op for op in operations if op.op_type == "const"]
        self.kept = {self.step(op) for op in self.runs}
        """Steps of which at least one op is left."""

    def step(self, op: Operation) -> Step | None:
        steps = self.lineage.steps
        return next((steps[handle] for handle in self.lineage.handles(op) if handle in steps), None)

    def vanished_before(self, step: Step) -> list[Step]:
        """List the steps that lead to a step and of which no op is left, nearest first, parameters among them."""
        found: dict[Step, None] = {}
        waiting = [step]
        for current in waiting:
            if len(found) >= _MAX_FUSED:
                break
            for before in current.inputs:
                if before not in found and before not in self.kept:
                    found[before] = None
                    waiting.append(before)
        return list(found)


def _first_reader(op: Operation, graph: _Graph) -> list[Step]:
    """Find the step for which coremltools reads a state or casts an input: no line of code stands for that itself."""
    readers = [reader for output in op.outputs for reader in output.child_ops]
    for reader in readers:
        step = graph.step(reader)
        if step is not None and step.runs:
            return [step]
        readers += [after for output in reader.outputs for after in output.child_ops]
    return []


def _parents(op: Operation, step: Step, graph: _Graph) -> list[Step]:
    """List the steps that an op was made from, the one it is named after first."""
    fused = [
        before
        for before in graph.vanished_before(step)
        if before.runs and before.from_input and not _computes_nothing(before)
    ]
    everything = sorted([step, *fused], key=lambda each: each.rank)
    leader = _leader(op, step, everything)
    if op.op_type == "cast" and leader is step:
        # coremltools puts casts of a model's inputs before the op that reads them, and gives them that op's handle.
        for reader in op.outputs[0].child_ops:
            if reader.op_type != "cast" and graph.step(reader) is step:
                leader = _leader(reader, step, everything)
        return [leader]
    return [leader, *(parent for parent in everything if parent is not leader)]


def _leader(op: Operation, step: Step, parents: list[Step]) -> Step:
    """Find the step that a fused op is named after: a conv with its batch norm comes back as the batch norm."""
    start = _LEADERS.get(op.op_type)
    matching = [parent for parent in parents if start and parent.origin.operator.startswith(start)]
    return step if not matching or step in matching else matching[-1]


def _computes_nothing(step: Step) -> bool:
    name = step.origin.operator
    if name in _PASSES_THROUGH:
        return True
    if len(step.inputs) != 1 or name not in {"view", "reshape", "expand", "slice", "_unsafe_view"}:
        return False
    return step.shape is not None and step.shape == step.inputs[0].shape


def _aten_name(node: Node) -> str:
    name = getattr(node.target, "__name__", "") or str(node.target)
    return name.split(".", 1)[0]


def _constants(graph: _Graph) -> tuple[dict[str, str], dict[str, str]]:
    """Link constants to torch parameters: those that hold one, and those that were computed from one."""
    named = graph.lineage.const_names
    parameters: dict[str, str] = dict(named)
    folded: dict[str, str] = {}
    for op in graph.constants:
        value = op.outputs[0].val
        if op.name in named or not isinstance(value, np.ndarray) or value.size < 2 or value.dtype.kind != "f":
            continue
        for reader in op.outputs[0].child_ops:
            step = graph.step(reader)
            if step is None:
                continue
            leader = _parents(reader, step, graph)[0]
            before = [*leader.inputs, *step.inputs, *graph.vanished_before(step)]
            names = list(dict.fromkeys(each.parameter for each in before if each.parameter))
            tensors = {name: graph.lineage.tensor(name) for name in names}
            tensors = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
            held = next((name for name, tensor in tensors.items() if _holds(value, tensor)), None)
            if held is not None:
                parameters[op.name] = held
            elif tensors:
                folded[op.name] = _folded_from(value, tensors, _role(op, reader))
            if held is not None or tensors:
                break
    return parameters, folded


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
