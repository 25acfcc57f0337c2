"""Schemes: how one weight is stored, and what is legal where.

A scheme is a value: immutable, hashable, ordered by its key. Whether coremltools can store a given weight under it is
decided in one place, `refusal`, which answers with the sentence that is shown to the user, in Python and on screen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import total_ordering
from math import prod
from typing import TYPE_CHECKING, Literal, TypeAlias

from talaria_nb.errors import SchemeError

if TYPE_CHECKING:
    from talaria_nb.program import Program, Shape

PaletteGranularity: TypeAlias = Literal["per_tensor", "per_grouped_channel"]
LinearGranularity: TypeAlias = Literal["per_tensor", "per_channel", "per_block"]
LinearDtype: TypeAlias = Literal["int8", "int4"]
LinearMode: TypeAlias = Literal["linear_symmetric", "linear"]

WEIGHT_THRESHOLD = 2048
"""coremltools compresses tensors with more elements than this (`OpPalettizerConfig.weight_threshold`'s default)."""

_PALETTE_NBITS = (1, 2, 3, 4, 6, 8)
_IOS18 = 18


@total_ordering
class Scheme:
    """How one weight is stored. The concrete schemes are frozen dataclasses."""

    __slots__ = ()

    @property
    def bits(self) -> int:
        """Bits of one stored element, without tables and scales."""
        raise NotImplementedError

    @property
    def key(self) -> str:
        """Canonical short text, unique to the scheme: "palettize:group16:4"."""
        raise NotImplementedError

    @property
    def family(self) -> str:
        """Key without the width: schemes of one family are the stops of one slider."""
        raise NotImplementedError

    @property
    def family_label(self) -> str:
        """What to call the family on screen."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """What to call the scheme on screen."""
        return f"{self.bits}-bit {self.family_label}"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Scheme):
            return NotImplemented
        return self.key < other.key


@dataclass(frozen=True, slots=True, repr=True)
class Float16(Scheme):
    """Keep a weight as converted: dense, in the model's own float type (float16 unless the package holds float32)."""

    @property
    def bits(self) -> int:
        return 16

    @property
    def family(self) -> str:
        return "float16"

    @property
    def family_label(self) -> str:
        return "float16"

    @property
    def key(self) -> str:
        return "float16"

    @property
    def label(self) -> str:
        return "float16"


@dataclass(frozen=True, slots=True)
class Palettize(Scheme):
    """Store a weight as `nbits`-bit indices into look-up tables of centroids.

    Parameters
    ----------
    nbits
        Index width, one of 1, 2, 3, 4, 6, 8 (coremltools 9 `OpPalettizerConfig.nbits`). 3 needs iOS18.
    granularity
        "per_tensor": one table; "per_grouped_channel": one table for every `group_size` output channels (iOS18).
    group_size
        Output channels that share a table; must divide their number. Only with "per_grouped_channel".

    Raises
    ------
    SchemeError
        For a width or grouping that coremltools cannot store.
    """

    nbits: int
    granularity: PaletteGranularity = "per_tensor"
    group_size: int | None = None

    def __post_init__(self) -> None:
        if self.nbits not in _PALETTE_NBITS:
            allowed = ", ".join(map(str, _PALETTE_NBITS))
            message = f"Palettize cannot use {self.nbits!r} bits: coremltools stores {allowed}."
            raise SchemeError(message)
        if self.granularity not in ("per_tensor", "per_grouped_channel"):
            message = (
                f"Palettize does not know granularity {self.granularity!r}: "
                'use "per_tensor" or "per_grouped_channel" with a group_size.'
            )
            raise SchemeError(message)
        if self.granularity == "per_grouped_channel":
            if self.group_size is None:
                object.__setattr__(self, "group_size", 32)
            if not _is_positive_int(self.group_size):
                message = f"Palettize needs a positive whole group_size, not {self.group_size!r}."
                raise SchemeError(message)
        elif self.group_size is not None:
            message = 'Palettize takes a group_size only with granularity="per_grouped_channel".'
            raise SchemeError(message)

    @property
    def bits(self) -> int:
        return self.nbits

    @property
    def key(self) -> str:
        return f"{self.family}:{self.nbits}"

    @property
    def family(self) -> str:
        return "palettize" if self.group_size is None else f"palettize:group{self.group_size}"

    @property
    def family_label(self) -> str:
        return "palettize" if self.group_size is None else f"palettize, group {self.group_size}"


@dataclass(frozen=True, slots=True)
class LinearQuantize(Scheme):
    """Store a weight as integers with a scale, and where needed a zero point, per tensor, channel or block.

    Parameters
    ----------
    dtype
        "int8", or with iOS18 "int4" (coremltools 9 `OpLinearQuantizerConfig.dtype`).
    granularity
        "per_channel" (of the output axis, the default), "per_tensor", or "per_block" (iOS18).
    block_size
        Input channels that share a scale; must divide their number. Only with "per_block".
    mode
        "linear_symmetric" (zero maps to zero) or "linear" (a zero point is stored).

    Raises
    ------
    SchemeError
        For a dtype, granularity or mode that coremltools cannot store.
    """

    dtype: LinearDtype = "int8"
    granularity: LinearGranularity = "per_channel"
    block_size: int | None = None
    mode: LinearMode = "linear_symmetric"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("dtype", ("int8", "int4")),
            ("granularity", ("per_tensor", "per_channel", "per_block")),
            ("mode", ("linear_symmetric", "linear")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                message = f"LinearQuantize does not know {name} {value!r}: use one of {', '.join(allowed)}."
                raise SchemeError(message)
        if self.granularity == "per_block":
            if self.block_size is None:
                object.__setattr__(self, "block_size", 32)
            if not _is_positive_int(self.block_size):
                message = f"LinearQuantize needs a positive whole block_size, not {self.block_size!r}."
                raise SchemeError(message)
        elif self.block_size is not None:
            message = 'LinearQuantize takes a block_size only with granularity="per_block".'
            raise SchemeError(message)

    @property
    def bits(self) -> int:
        return 4 if self.dtype.endswith("4") else 8

    @property
    def has_zero_point(self) -> bool:
        """Whether zero points carry information; iOS16 and iOS17 store them all the same."""
        return self.mode == "linear"

    @property
    def key(self) -> str:
        return f"{self.family}:{self.dtype}"

    @property
    def family(self) -> str:
        grain = self.granularity.removeprefix("per_") + (str(self.block_size) if self.block_size else "")
        mode = "" if self.mode == "linear_symmetric" else ":asymmetric"
        return f"linear:{grain}{mode}"

    @property
    def family_label(self) -> str:
        grain = self.granularity.replace("_", "-") + (f" {self.block_size}" if self.block_size else "")
        mode = "" if self.mode == "linear_symmetric" else ", asymmetric"
        return f"linear, {grain}{mode}"


@dataclass(frozen=True, slots=True)
class AsStored(Scheme):
    """Keep a weight as the loaded package holds it, compressed in a way that no other scheme here says.

    Parameters
    ----------
    how
        The steps of its decompression in words: "palette + sparse".
    nbits
        Width of one stored element.
    """

    how: str
    nbits: int

    @property
    def bits(self) -> int:
        return self.nbits

    @property
    def key(self) -> str:
        return f"{self.family}:{self.nbits}"

    @property
    def family(self) -> str:
        return f"stored:{self.how.replace(' ', '')}"

    @property
    def family_label(self) -> str:
        return f"{self.how}, as stored"


def _is_positive_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


DEFAULT_MENU: tuple[Scheme, ...] = (
    Float16(),
    *(Palettize(nbits) for nbits in (8, 6, 4, 3, 2, 1)),
    *(Palettize(nbits, "per_grouped_channel", 16) for nbits in (8, 6, 4, 3, 2, 1)),
    LinearQuantize("int8", "per_channel"),
    LinearQuantize("int4", "per_channel"),
    LinearQuantize("int8", "per_tensor"),
    LinearQuantize("int4", "per_tensor"),
    LinearQuantize("int8", "per_block", 32),
    LinearQuantize("int4", "per_block", 32),
)
"""The schemes that a session offers for every weight; `Float16()` is always first."""


def ios_version(deployment_target: str) -> int:
    """Return the iOS version of a target: "iOS18" → 18."""
    return int(deployment_target.removeprefix("iOS"))


def starting_schemes(program: Program) -> tuple[Scheme, ...]:
    """Return how each weight of a program is stored as it was loaded, in file order."""
    packed = program.weights.packed
    return tuple(packed[row].scheme if row in packed else Float16() for row in range(len(program.weights)))


def refusal(
    scheme: Scheme,
    *,
    shape: Shape,
    channel_axes: tuple[int, int] | None,
    deployment_target: str,
    start: Scheme = Float16(),
) -> str | None:
    """Say why coremltools cannot store a weight under a scheme.

    Parameters
    ----------
    scheme
        The wanted scheme.
    shape
        The weight's shape.
    channel_axes
        (input axis, output axis) as coremltools infers them, or None where the weight's consumers disagree.
    deployment_target
        "iOS16" or newer.
    start
        How the loaded model holds the weight; see `starting_schemes`. A compressed weight can only stay as it is:
        compressing it once more would add to its error, and its own values are lost.

    Returns
    -------
    str or None
        One sentence, or None if the scheme is legal. Every rule is what coremltools 9 does in
        `optimize/coreml/_quantization_passes.py`: it refuses old targets and skips the rest *silently*.
    """
    if scheme == start:
        return None
    loaded_otherwise = _loaded_otherwise(scheme, start)
    if loaded_otherwise is not None:
        return loaded_otherwise
    elements = prod(shape)
    if elements <= WEIGHT_THRESHOLD:
        return f"It has {elements:,} elements; coremltools compresses weights with more than {WEIGHT_THRESHOLD:,}."
    if channel_axes is None:
        return "The ops that read it disagree about its channel axis, so coremltools would skip it."
    too_new = _needs_ios18(scheme)
    if too_new is not None and ios_version(deployment_target) < _IOS18:
        return f"{too_new} need iOS18; this model targets {deployment_target}."
    return _indivisible(scheme, shape, channel_axes)


def _loaded_otherwise(scheme: Scheme, start: Scheme) -> str | None:
    if not isinstance(start, Float16):
        return f"The package already holds it as {start.label}; load the uncompressed model to choose anything else."
    return "Only a weight that was loaded so can be stored so." if isinstance(scheme, AsStored) else None


def _needs_ios18(scheme: Scheme) -> str | None:
    """Name what about a scheme iOS16 and iOS17 lack."""
    if isinstance(scheme, Palettize):
        if scheme.group_size is not None:
            return "Grouped palettes"
        return "3-bit palettes" if scheme.nbits == 3 else None
    if isinstance(scheme, LinearQuantize):
        if scheme.block_size is not None:
            return "Blockwise scales"
        return "4-bit integers" if scheme.bits == 4 else None
    return None


def _indivisible(scheme: Scheme, shape: Shape, channel_axes: tuple[int, int]) -> str | None:
    input_axis, output_axis = channel_axes
    if isinstance(scheme, Palettize):
        side, channels, group = "output", shape[output_axis], scheme.group_size
    elif isinstance(scheme, LinearQuantize):
        side, channels, group = "input", shape[input_axis], scheme.block_size
    else:
        return None
    if group is None or channels % group == 0:
        return None
    return f"Its {channels:,} {side} channels cannot be divided into groups of {group}."
