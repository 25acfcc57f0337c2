"""torch.nn.Module → MIL by torch.jit.trace: the road for modules that torch.export cannot take."""

from __future__ import annotations

import linecache
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import coremltools as ct
import numpy as np
import torch
import torch.utils._pytree as pytree
from coremltools.converters.mil.frontend.torch.torchscript_utils import _expand_and_optimize_ir
from coremltools.converters.mil.mil.scope import ScopeSource

from talaria_nb import (
    coreml,
    translations,  # noqa: F401 - importing it registers them
)
from talaria_nb.errors import ConversionError, LoadError
from talaria_nb.lineage import Lineage, Step, link
from talaria_nb.read import mil_function
from talaria_nb.source import Frame, Origin, SourceMap, is_of_model, is_of_torch
from talaria_nb.states import check_states, plain_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from talaria_nb.states import States

_DTYPES = {torch.int64: np.int32, torch.int32: np.int32, torch.bool: np.bool_, torch.float64: np.float32}
_FRAME = re.compile(r"^(?P<file>.+)\((?P<line>\d+)\): (?P<function>.*)$", re.MULTILINE)
"""One frame as TorchScript keeps it."""
_MODULE_MARK = "<module of the model>"
"""File name of the frames that `_marked` puts around each module; their function is "." and the module's path."""
_ASSIGNED = frozenset(["aten::copy_", "aten::fill_"])
"""Kinds of nodes that coremltools takes for an assignment to a part of a tensor, after `_PARTS`."""
_PARTS = frozenset(["aten::select", "aten::slice"])
_SHAPES = frozenset(["size", "dim", "numel", "len"])
"""ATen names of nodes whose results depend on shapes only: they are constants after conversion."""


class _Flat(torch.nn.Module):
    """A module that takes and returns tensors only, whatever nests of containers the one inside uses."""

    def __init__(
        self, module: torch.nn.Module, spec: pytree.TreeSpec, leaves: list[Any], flatten: Callable[..., Any]
    ) -> None:
        super().__init__()
        self.module = module
        self._spec = spec
        self._leaves = leaves
        self._flatten = flatten

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, torch.Tensor) else leaf for leaf in self._leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        return tuple(self._flatten(self.module(*args, **kwargs)))


def convert_traced(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    deployment_target: str,
    flatten: Callable[[Any], list[torch.Tensor]],
    states: States | None = None,
) -> tuple[ct.models.MLModel, SourceMap]:
    """Trace a module and convert what was traced.

    Parameters
    ----------
    module
        In eval mode and single precision.
    args, kwargs
        Example inputs. What is not a tensor is fixed in the trace.
    deployment_target
        "iOS16" or newer.
    flatten
        Lists the tensors of the module's output.
    states
        Buffers that become states, None for those that change.

    Raises
    ------
    LoadError
        If the states are not the buffers that change, or what changes is no buffer.
    ConversionError
        If coremltools would lose a change without a word.
    """
    leaves, spec = pytree.tree_flatten((args, kwargs))
    tensors = [leaf.clone() for leaf in leaves if isinstance(leaf, torch.Tensor)]
    own_buffers(module)
    before = {name: (buffer, buffer._version) for name, buffer in module.named_buffers()}  # noqa: SLF001 - counts writes
    registered = {id(buffer) for buffer, _ in before.values()}
    plain_before = {
        place.path: (plain, plain._version)  # noqa: SLF001
        for place in plain_tensors(module)
        if id(plain := place.holder[place.key]) not in registered
    }
    with torch.no_grad(), _marked(module), _layer_by_layer():
        flat = _Flat(module, spec, leaves, flatten)
        traced = torch.jit.trace(flat, tuple(tensors), check_trace=False, strict=False)  # type: ignore[no-untyped-call]
    _check_views(traced, type(module).__name__)
    inputs = [ct.TensorType(shape=tensor.shape, dtype=_DTYPES.get(tensor.dtype, np.float32)) for tensor in tensors]
    changed = [name for name, (buffer, version) in before.items() if buffer._version != version]  # noqa: SLF001
    buffers = {name: buffer for name, (buffer, _) in before.items()}
    name = type(module).__name__
    for at, (plain, version) in plain_before.items():
        if plain._version != version:  # noqa: SLF001
            message = (
                f"{name} changes its tensor {at!r} as it runs, and the change would be lost because it is no buffer; "
                "make it one with register_buffer, and it becomes a Core ML state."
            )
            raise LoadError(message)
    check_states(states, buffers, changed, deployment_target, name)
    kept = [
        ct.StateType(ct.TensorType(shape=buffers[name].shape, dtype=np.float16), name=f"module.{name}")
        for name in changed
    ]
    mlmodel = coreml.convert(traced, deployment_target, inputs=inputs, states=kept or None)
    return mlmodel, link(_lineage(traced, module), mil_function(mlmodel))


@contextmanager
def _layer_by_layer() -> Iterator[None]:
    """Keep torch's transformer layers from calling one operator of torch's own for a whole layer."""
    own = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(value=False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(value=own)


def _check_views(traced: torch.jit.ScriptModule, name: str) -> None:
    """Refuse changes of a view where the tensor behind it is read afterwards or is a state: most would be lost.

    coremltools follows a tensor that is changed as a whole, and assignments to slices of one, but no other views.
    """
    views = _Views()
    kept: list[str] = []
    for node in _expand_and_optimize_ir(traced)[0].nodes():
        views.read([value.debugName() for value in node.inputs()], name)
        if node.kind() == "prim::GetAttr":
            kept += [value.debugName() for value in node.outputs()]
        else:
            views.add(node)
    views.read(kept, name)


class _Views:
    """Which values of a TorchScript graph are parts of which tensor, and where its latest values are."""

    def __init__(self) -> None:
        self.base: dict[str, str] = {}
        self.views: set[str] = set()
        self.slices: set[str] = set()
        self.current: dict[str, set[str]] = {}

    def read(self, names: list[str], model: str) -> None:
        for name in names:
            base = self.base.get(name, name)
            if name not in self.current.get(base, {name}):
                message = f"a trace of {model} would lose a change of a part of its tensor {base!r}"
                raise ConversionError(message)

    def add(self, node: torch.Node) -> None:
        schema, results = node.schema(), [value.debugName() for value in node.outputs()]
        changes = "(Tensor(a!) self" in schema
        if not changes and "(Tensor(a" not in schema and node.kind() != "prim::ListUnpack":
            return
        first = next(value.debugName() for value in node.inputs())
        base = self.base.get(first, first)
        self.base |= dict.fromkeys(results, base)
        if node.kind() in _PARTS and (first in self.slices or first not in self.views):
            self.slices.update(results)
        if changes and first in self.views and not (node.kind() in _ASSIGNED and first in self.slices):
            self.current[base] = {*results}
        if not changes or first in self.views:
            self.views.update(results)
        if first in self.current.get(base, ()):
            self.current[base].update(results)


def own_buffers(module: torch.nn.Module) -> None:
    """Give a copied module buffers and plain tensors of its own: to run it would change those of the user's module.

    Parameters are shared still, for they take most of the memory and no forward of an evaluated module changes them.
    """
    own: dict[int, torch.Tensor] = {}

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in own:
            own[id(tensor)] = tensor.detach().clone()
        return own[id(tensor)]

    for each in module.modules():
        for name, buffer in each.named_buffers(recurse=False, remove_duplicate=False):
            setattr(each, name, copied(buffer))
        vars(each).update({name: copied(v) for name, v in vars(each).items() if isinstance(v, torch.Tensor)})


@contextmanager
def _marked(module: torch.nn.Module) -> Iterator[None]:
    """Put a frame that names the module around every module's forward, while it runs inside.

    TorchScript keeps the whole Python stack of each node, but only the last part of its module's path, so that modules
    in different lists look the same; the stack then holds the path as well.
    """
    own: list[tuple[torch.nn.Module, Any]] = []
    for path, each in module.named_modules():
        if not isinstance(each, torch.jit.ScriptModule):
            own.append((each, vars(each).get("forward")))
            each.forward = _in_frame(path, each.forward)
    try:
        yield
    finally:
        for each, forward in own:
            del each.forward
            if forward is not None:
                each.forward = forward


def _in_frame(path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    call.__code__ = call.__code__.replace(co_filename=_MODULE_MARK, co_name=f".{path}")
    return call


def _lineage(traced: torch.jit.ScriptModule, module: torch.nn.Module) -> Lineage:
    """Describe what was traced, as coremltools reads it: an op's last scope is the name of its node's first output."""
    graph, parameters, _ = _expand_and_optimize_ir(traced)
    classes = {path: f"{type(each).__module__}.{type(each).__qualname__}" for path, each in module.named_modules()}
    state = dict([*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)])
    steps: dict[Hashable, Step] = {}

    def add(name: str, step: Step) -> None:
        steps[name.replace(" ", "")] = step  # as coremltools writes its scopes

    used: dict[str, str] = {}
    unknown = Origin("", "", ())
    for value in graph.inputs():
        add(value.debugName(), Step(-1, unknown, (), runs=False, from_input=True))
    for rank, node in enumerate(graph.nodes()):
        kind, _, operator = node.kind().partition("::")
        names = [value.debugName() for value in node.outputs()]
        held = names[0].removeprefix("module.") if names and names[0] in parameters else ""
        reads = [] if operator in _SHAPES or (kind == "prim" and operator == "GetAttr") else node.inputs()
        before = tuple(steps[name] for value in reads if (name := value.debugName().replace(" ", "")) in steps)
        path, frames = _place(node.sourceRange())
        used |= {above: classes[above] for above in _ancestry(path)}
        step = Step(
            rank,
            Origin(path, operator.strip("_"), frames),
            before,
            runs=kind == "aten",
            from_input=any(each.from_input for each in before),
            shape=_shape(node),
            parameter=held if held in state else "",
        )
        for name in names:
            add(name, step)
    return Lineage(
        steps,
        lambda op: op.scopes.get(ScopeSource.TORCHSCRIPT_MODULE_NAME, [])[-1:],
        {"": classes[""], **used},
        lambda name: state[name].detach(),
        {},
    )


def _place(stack: str) -> tuple[str, tuple[Frame, ...]]:
    """Read the module and the frames from the Python stack of a node, which has the innermost frame first."""
    path, frames = None, []
    for match in reversed(list(_FRAME.finditer(stack))):
        file, line, function = match["file"], int(match["line"]), match["function"]
        if file == _MODULE_MARK:
            path = function[1:]
        elif path is not None and is_of_model(file, function):
            code = linecache.getline(file, line).strip()
            frames.append(Frame(file, line, function, code, is_user=not is_of_torch(file)))
    return path or "", tuple(frames)


def _ancestry(path: str) -> list[str]:
    parts = path.split(".") if path else []
    return [".".join(parts[:depth]) for depth in range(len(parts) + 1)]


def _shape(node: torch.Node) -> tuple[int, ...] | None:
    outputs = list(node.outputs())
    kind = outputs[0].type() if len(outputs) == 1 else None
    sizes = kind.sizes() if isinstance(kind, torch.TensorType) else None
    return None if sizes is None else tuple(sizes)
