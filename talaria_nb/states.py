"""Which buffers of a torch module become Core ML states: those that it changes as it runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import coremltools as ct
import torch
from coremltools.converters.mil.mil import types
from torch.export.graph_signature import OutputKind

from talaria_nb.errors import LoadError, did_you_mean
from talaria_nb.subjects import ios_version

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from torch.export import ExportedProgram
    from torch.fx import Node

States: TypeAlias = "Sequence[str | ct.StateType]"
"""Names of buffers, or coremltools' own description of a state, which has the name of its buffer."""

_SINCE = 18
"""iOS version from which Core ML has states."""

aten = torch.ops.aten

_OVERWRITES = frozenset([aten.copy.default, aten.fill.Scalar, aten.fill.Tensor, aten.zeros_like.default])
"""Operators that read nothing of their first argument but its shape and dtype."""
_REGISTERED = frozenset(["_parameters", "_buffers", "_modules"])
"""Attributes of a module that hold what it registered."""
_OPAQUE = (type, ModuleType, FunctionType, torch.nn.Module)


class Place(NamedTuple):
    """Where a module keeps a tensor besides its parameters and buffers.

    Attributes
    ----------
    path
        As one would write it, from the module on.
    holder
        The list, dict or attributes that the tensor is in.
    key
        Its place there.
    """

    path: str
    holder: Any
    key: Any


def plain_tensors(module: torch.nn.Module) -> Iterator[Place]:
    """List the tensors that a module and those inside keep in attributes, lists, dicts and plain objects."""
    seen: set[int] = set()
    left: list[tuple[str, Any]] = [(path, vars(each)) for path, each in module.named_modules()]
    while left:
        path, holder = left.pop()
        for key, value in list(enumerate(holder) if isinstance(holder, list) else holder.items()):
            at = f"{path}.{key}".lstrip(".")
            if isinstance(value, torch.Tensor):
                yield Place(at, holder, key)
            elif id(value) not in seen and key not in _REGISTERED:
                seen.add(id(value))
                if isinstance(value, (list, dict)):
                    left.append((at, value))
                elif hasattr(value, "__dict__") and not isinstance(value, _OPAQUE):
                    left.append((at, vars(value)))


def follow_buffers(module: torch.nn.Module) -> None:
    """Let plain objects that keep a module's buffers, too (transformers' `StaticCache`), see those it runs with.

    torch.export runs a module with stand-ins for its buffers. What an object writes to the buffer itself would be lost.

    Parameters
    ----------
    module
        A copy of the user's; gets a hook.
    """
    homes = {
        id(buffer): (each, name) for each in module.modules() for name, buffer in each.named_buffers(recurse=False)
    }
    kept = [
        (place, homes[id(tensor)]) for place in plain_tensors(module) if id(tensor := place.holder[place.key]) in homes
    ]
    if not kept:
        return

    def refresh(*_: object) -> None:
        for place, (owner, name) in kept:
            place.holder[place.key] = getattr(owner, name)

    module.register_forward_pre_hook(refresh)


def drop_unread(exported: ExportedProgram) -> list[str]:
    """Take out of an exported program the changes of integer buffers that it never reads: no state can hold them.

    The position in transformers' `StaticCache` is one. It is copied from an input before it counts on, so nothing of it
    lasts from one run to the next.

    Parameters
    ----------
    exported
        Without in-place operators (`run_decompositions({})`). Changed in place.

    Returns
    -------
    list of str
        Names of the buffers.
    """
    signature = exported.graph_signature
    placeholders = {node.name: node for node in exported.graph.find_nodes(op="placeholder")}
    unread = [
        buffer
        for name, buffer in signature.inputs_to_buffers.items()
        if buffer in signature.buffers_to_mutate.values()
        and _is_integer(placeholders[name].meta["val"])
        and not any(_reads(user, placeholders[name]) for user in placeholders[name].users)
    ]
    if unread:
        [output] = exported.graph.find_nodes(op="output")
        specs = signature.output_specs
        kept = [spec.kind is not OutputKind.BUFFER_MUTATION or spec.target not in unread for spec in specs]
        output.args = (tuple(itertools.compress(output.args[0], kept)),)
        specs[:] = itertools.compress(specs, kept)
    return unread


def _reads(node: Node, buffer: Node) -> bool:
    return node.target not in _OVERWRITES or buffer in node.args[1:]


def _is_integer(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() and tensor.dtype is not torch.bool


def check_states(
    states: States | None,
    buffers: Mapping[str, torch.Tensor],
    changed: Collection[str],
    deployment_target: str,
    name: str,
) -> None:
    """Refuse states that the model does not have, and changes that would be lost without a word.

    Parameters
    ----------
    states
        What the user named; None for whatever the module changes.
    buffers
        Every buffer of the module by name.
    changed
        Names of those that it changes as it runs.
    deployment_target
        "iOS16" or newer.
    name
        What to call the model in errors.

    Raises
    ------
    LoadError
        If the target has no states, or `states` are not the changed buffers in their own shape and in float16.
    """
    if changed and ios_version(deployment_target) < _SINCE:
        message = (
            f"{name} changes its buffer {next(iter(changed))!r} as it runs, which needs a Core ML state and so iOS18; "
            "load it with deployment_target='iOS18', or give the buffer as an input and an output."
        )
        raise LoadError(message)
    for buffer in changed:
        if _is_integer(buffers[buffer]):
            dtype = str(buffers[buffer].dtype).removeprefix("torch.")
            message = (
                f"{name} keeps its buffer {buffer!r} of {dtype} from one run to the next, but Core ML keeps states in "
                "float16, which has no odd numbers above 2,048. Give it as an input and an output, or set it from an "
                "input (the position of the token) before it is read."
            )
            raise LoadError(message)
    if states is None:
        return
    if not isinstance(states, (Iterable, ct.StateType)):
        message = f"states= takes names of buffers or ct.StateType values with a name, not {states!r:.80}."
        raise LoadError(message)
    several = [states] if isinstance(states, (str, ct.StateType)) else states
    named = [_checked(state, buffers, changed, name) for state in several]
    left_out = [buffer for buffer in changed if buffer not in named]
    if left_out:
        message = (
            f"{name} changes its buffer {left_out[0]!r} as well, and without a state the change would be lost; "
            "add it to states=, or leave states= out to keep every buffer that changes."
        )
        raise LoadError(message)


def _checked(state: object, buffers: Mapping[str, torch.Tensor], changed: Collection[str], name: str) -> str:
    """Return the buffer that one entry of `states` is about."""
    buffer = state.name if isinstance(state, ct.StateType) else state
    if not isinstance(buffer, str):
        message = f"states= takes names of buffers or ct.StateType values with a name, not {state!r:.80}."
        raise LoadError(message)
    if buffer not in buffers:
        hint = did_you_mean(buffer, buffers) or f" It changes {', '.join(map(repr, changed)) or 'none'} as it runs."
        message = f"{name} has no buffer {buffer!r}.{hint}"
        raise LoadError(message)
    if buffer not in changed:
        message = (
            f"{name} keeps nothing in its buffer {buffer!r} from one run to the next, so it is no state. "
            "Take it out of states=."
        )
        raise LoadError(message)
    if isinstance(state, ct.StateType):
        shape, own = tuple(state.shape.symbolic_shape), tuple(buffers[buffer].shape)
        if shape != own:
            message = f"The state {buffer!r} of {name} is given the shape {shape}; its buffer has {own}."
            raise LoadError(message)
        if state.dtype not in (None, types.fp16):
            dtype = types.builtin_to_string(state.dtype)
            message = f"The state {buffer!r} of {name} is given as {dtype}; Core ML keeps states in fp16 only."
            raise LoadError(message)
    return buffer
