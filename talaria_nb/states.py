"""Which buffers of a torch module become Core ML states: those that it changes as it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import coremltools as ct
from coremltools.converters.mil.mil import types

from talaria_nb.errors import LoadError, did_you_mean
from talaria_nb.legality import ios_version

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import torch

States: TypeAlias = "Sequence[str | ct.StateType]"
"""Names of buffers, or coremltools' own description of a state, which has the name of its buffer."""

_SINCE = 18
"""iOS version from which Core ML has states."""


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
    if states is None:
        return
    named = [_checked(state, buffers, changed, name) for state in ([states] if isinstance(states, str) else states)]
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
        hint = did_you_mean(buffer, buffers) or f" It has {', '.join(map(repr, buffers)) or 'none'}."
        message = f"{name} has no buffer {buffer!r}.{hint}"
        raise LoadError(message)
    if buffer not in changed:
        message = (
            f"{name} never changes its buffer {buffer!r}, so it is a constant and no state. Take it out of states=."
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
