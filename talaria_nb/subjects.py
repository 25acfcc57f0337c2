"""Weights as rules and sizes see them: shape, channels, readers, and a few facts about their values."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from talaria_nb.schemes import Float16, LinearQuantize, Palettize, Prune, Scheme, part

if TYPE_CHECKING:
    from collections.abc import Hashable

    from talaria_nb.contents import Contents
    from talaria_nb.program import Program, Shape

_DENSE = Float16()


class Use(NamedTuple):
    """One place where a weight is read: by what op, as what, and in how many groups of channels (convolutions)."""

    op_type: str
    parameter: str
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Subject:
    """A weight, as far as the rules look at it.

    Attributes
    ----------
    shape
        Its shape.
    channel_axes
        (input axis, output axis) as coremltools infers them, or None where the weight's consumers disagree.
    deployment_target
        "iOS16" or newer.
    uses
        Where it is read; empty if unknown, which no rule minds.
    start
        How the loaded model holds it; see `starting_schemes`.
    contents
        Its values, or None: then the rules that need them are left out.
    """

    shape: Shape
    channel_axes: tuple[int, int] | None
    deployment_target: str
    uses: tuple[Use, ...] = ()
    start: Scheme = _DENSE
    contents: Contents | None = field(default=None, compare=False)

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def ios(self) -> int:
        """IOS version of the deployment target."""
        return ios_version(self.deployment_target)


def ios_version(deployment_target: str) -> int:
    """Return the iOS version of a target: "iOS18" → 18."""
    return int(deployment_target.removeprefix("iOS"))


def starting_schemes(program: Program) -> tuple[Scheme, ...]:
    """Return how each weight of a program is stored as it was loaded, in file order."""
    packed = program.weights.packed
    return tuple(packed[row].scheme if row in packed else _DENSE for row in range(len(program.weights)))


def grouped_axis(scheme: Palettize, weight: Subject) -> int:
    """Return the axis along which a palette's groups and vectors lie."""
    if scheme.channel_axis is not None:
        return scheme.channel_axis
    return 0 if weight.channel_axes is None else weight.channel_axes[1]


def table_counts(scheme: Palettize, weight: Subject) -> tuple[int, ...]:
    """Return how many tables a palette has along each axis of the weight."""
    counts = [1] * len(weight.shape)
    if scheme.group_size is not None:
        axis = grouped_axis(scheme, weight)
        counts[axis] = weight.shape[axis] // scheme.group_size
    return tuple(counts)


def scale_counts(scheme: LinearQuantize, weight: Subject) -> tuple[int, ...]:
    """Return how many scales linear quantization has along each axis of the weight."""
    if isinstance(scheme.block_size, tuple):
        return tuple(size // block if block else 1 for size, block in zip(weight.shape, scheme.block_size, strict=True))
    counts = [1] * len(weight.shape)
    if scheme.granularity != "per_tensor" and weight.channel_axes is not None:
        input_axis, output_axis = weight.channel_axes
        counts[output_axis] = weight.shape[output_axis]
        if scheme.block_size is not None:
            counts[input_axis] = weight.shape[input_axis] // scheme.block_size
    return tuple(counts)


def distinct_values(scheme: Scheme, weight: Subject) -> int:
    """Count the values that a palette of mode "unique" must hold, in the group that has most; needs the contents."""
    palette, prune = part(scheme, Palettize), part(scheme, Prune)
    if palette is None or weight.contents is None:
        return 0
    axis = grouped_axis(palette, weight)
    return weight.contents.distinct(axis, table_counts(palette, weight)[axis], palette.cluster_dim, prune)


def unique_nbits(scheme: Scheme, weight: Subject) -> int:
    """Return the width of the indices of a palette of mode "unique"; needs the contents."""
    count = distinct_values(scheme, weight)
    return next((nbits for nbits in (1, 2, 3, 4, 6) if count <= 2**nbits), 8)


def value_facts(scheme: Scheme, weight: Subject) -> tuple[Hashable, ...]:
    """Return all that legality and bytes under a scheme depend on among the values of a weight; needs the contents.

    Of two weights that are alike in everything else and have the same facts, both are refused or both are stored in as
    many bytes.
    """
    if weight.contents is None:
        return ()
    facts: list[Hashable] = []
    for found in dict.fromkeys((scheme, *scheme.parts)):
        if isinstance(found, LinearQuantize):
            facts.append(weight.contents.has_infinity)
        if isinstance(found, Prune):
            facts.append(weight.contents.pruned(found).nonzeros)
        if is_unique(found):
            facts.append(distinct_values(found, weight))
    return tuple(facts)


def depends_on_values(scheme: Scheme) -> bool:
    """Say whether a scheme has `value_facts`."""
    return any(isinstance(found, (LinearQuantize, Prune)) or is_unique(found) for found in scheme.parts)


def subject(program: Program, row: int) -> Subject:
    """Return what the rules look at of the weight in one row of `program.weights`."""
    weights = program.weights
    packed = weights.packed.get(row)
    return Subject(
        shape=weights.shape[row],
        channel_axes=weights.channel_axes[row],
        deployment_target=program.deployment_target,
        uses=tuple(dict.fromkeys(uses(program)[row])),
        start=_DENSE if packed is None else packed.scheme,
        contents=weights.contents[row] if packed is None and weights.contents else None,
    )


def uses(program: Program) -> tuple[tuple[Use, ...], ...]:
    """List every place where each weight is read, in execution order; found once a program."""
    if program not in _USES:
        _USES[program] = _uses(program)
    return _USES[program]


_USES: WeakKeyDictionary[Program, tuple[tuple[Use, ...], ...]] = WeakKeyDictionary()


def _uses(program: Program) -> tuple[tuple[Use, ...], ...]:
    ops = program.ops
    found: list[list[Use]] = [[] for _ in program.weights.name]
    weight = program.values.weight.tolist()
    for op in sorted({op for readers in program.weights.readers for op in readers}):
        groups = ops.attributes[op].get("groups", 1)
        for parameter, value in ops.inputs[op]:
            if weight[value] >= 0:
                use = Use(ops.op_type[op], parameter, groups if isinstance(groups, int) else 1)
                found[weight[value]].append(use)
    return tuple(map(tuple, found))


def is_unique(scheme: Scheme) -> bool:
    """Whether a scheme, or a part of it, is a palette without loss."""
    palette = part(scheme, Palettize)
    return palette is not None and palette.mode == "unique"
