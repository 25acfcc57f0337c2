"""Schemes: how one weight is stored.

A scheme is a value: immutable, hashable, ordered by its key. Simple schemes join with `+`, in the order in which
coremltools applies them: `Prune(0.5) + Palettize(4)`. What is legal where is said in `legality.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import total_ordering
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from talaria_nb.errors import SchemeError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

PaletteGranularity: TypeAlias = Literal["per_tensor", "per_grouped_channel"]
PaletteMode: TypeAlias = Literal["kmeans", "uniform", "unique"]
LinearGranularity: TypeAlias = Literal["per_tensor", "per_channel", "per_block"]
LinearDtype: TypeAlias = Literal["int8", "uint8", "int4", "uint4"]
LinearMode: TypeAlias = Literal["linear_symmetric", "linear"]

_PALETTE_NBITS = (1, 2, 3, 4, 6, 8)
_DENSE_BITS = 16

_REFUSED_KEYWORDS = {
    "enable_per_channel_scale": (
        "enable_per_channel_scale corrupts weights in coremltools 9 (reported in its pull request 2777): where the op "
        "is skipped later, the weight stays divided by its scales. Use a smaller group_size instead."
    )
}


@total_ordering
class Scheme:
    """How one weight is stored. The concrete schemes are frozen dataclasses."""

    __slots__ = ()

    def __new__(cls, *_args: object, **keywords: object) -> Self:
        """Refuse unknown keywords, which coremltools would ignore in a config, with the known ones."""
        known = list(getattr(cls, "__dataclass_fields__", ()))
        for keyword in keywords:
            if keyword in _REFUSED_KEYWORDS:
                raise SchemeError(_REFUSED_KEYWORDS[keyword])
            if keyword not in known:
                takes = f"It takes {', '.join(known)}." if known else "It takes none."
                message = f"{cls.__name__} does not know the keyword {keyword!r}. {takes}"
                raise SchemeError(message)
        return object.__new__(cls)

    @property
    def bits(self) -> float:
        """Bits stored for one element on average, without masks, tables and scales; zeros of a pruned weight count."""
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
        return f"{self.bits:g}-bit {self.family_label}"

    @property
    def parts(self) -> tuple[Scheme, ...]:
        """The simple schemes that it is made of, in the order in which they are applied."""
        return (self,)

    def __add__(self, other: Scheme) -> Joint:
        if not isinstance(other, Scheme):
            return NotImplemented
        return Joint((*self.parts, *other.parts))

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Scheme):
            return NotImplemented
        return self.key < other.key


@dataclass(frozen=True, slots=True, repr=True)
class Float16(Scheme):
    """Keep a weight as converted: dense, in the model's own float type (float16 unless the package holds float32)."""

    @property
    def bits(self) -> float:
        return _DENSE_BITS

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
        Index width, one of 1, 2, 3, 4, 6, 8 (coremltools 9 `OpPalettizerConfig.nbits`). 3 needs iOS18. Not with mode
        "unique", which takes as many as there are distinct values.
    granularity
        "per_tensor": one table; "per_grouped_channel": one table for every `group_size` channels (iOS18).
    group_size
        Channels that share a table; must divide their number. Only with "per_grouped_channel".
    channel_axis
        Axis that is divided into groups; None for the output channels. Only with "per_grouped_channel".
    cluster_dim
        Length of the centroids: more than 1 makes a table of vectors along the channel axis (iOS18).
    mode
        "kmeans", "uniform" (evenly spaced centroids) or "unique" (lossless: every distinct value is a centroid).

    Raises
    ------
    SchemeError
        For a width, grouping or mode that coremltools cannot store.
    """

    nbits: int | None = None
    granularity: PaletteGranularity = "per_tensor"
    group_size: int | None = None
    channel_axis: int | None = None
    cluster_dim: int = 1
    mode: PaletteMode = "kmeans"

    def __post_init__(self) -> None:
        _check_choice(self, "mode", ("kmeans", "uniform", "unique"))
        _check_choice(self, "granularity", ("per_tensor", "per_grouped_channel"))
        self._check_nbits()
        self._check_groups()
        _check_positive(self, "cluster_dim")
        if self.cluster_dim > 1 and self.mode == "uniform":
            message = 'Palettize has no vectors (cluster_dim > 1) with mode="uniform".'
            raise SchemeError(message)
        if self.group_size is not None and self.group_size % self.cluster_dim:
            message = f"Palettize cannot divide groups of {self.group_size} into vectors of {self.cluster_dim}."
            raise SchemeError(message)

    def _check_nbits(self) -> None:
        if self.mode == "unique":
            if self.nbits is not None:
                message = 'Palettize takes no nbits with mode="unique": it takes as many as there are distinct values.'
                raise SchemeError(message)
        elif self.nbits not in _PALETTE_NBITS or isinstance(self.nbits, bool):
            allowed = ", ".join(map(str, _PALETTE_NBITS))
            message = f"Palettize cannot use {self.nbits!r} bits: coremltools stores {allowed}."
            raise SchemeError(message)

    def _check_groups(self) -> None:
        if self.granularity == "per_grouped_channel":
            if self.group_size is None:
                object.__setattr__(self, "group_size", 32)
            _check_positive(self, "group_size")
            if self.channel_axis is not None and not (_is_whole(self.channel_axis) and self.channel_axis >= 0):
                message = f"Palettize needs a channel_axis of 0 or more, not {self.channel_axis!r}."
                raise SchemeError(message)
        else:
            for name in ("group_size", "channel_axis"):
                if getattr(self, name) is not None:
                    message = f'Palettize takes a {name} only with granularity="per_grouped_channel".'
                    raise SchemeError(message)

    @property
    def bits(self) -> float:
        """Bits of one element; for "unique" the most that it may take."""
        return (self.nbits or 8) / self.cluster_dim

    @property
    def key(self) -> str:
        return self.family if self.nbits is None else f"{self.family}:{self.nbits}"

    @property
    def family(self) -> str:
        axis = "" if self.channel_axis is None else f":axis{self.channel_axis}"
        return "palettize" + "".join(
            (
                "" if self.group_size is None else f":group{self.group_size}{axis}",
                "" if self.cluster_dim == 1 else f":vector{self.cluster_dim}",
                "" if self.mode == "kmeans" else f":{self.mode}",
            )
        )

    @property
    def family_label(self) -> str:
        axis = "" if self.channel_axis is None else f" of axis {self.channel_axis}"
        return "palettize" + "".join(
            (
                "" if self.group_size is None else f", group {self.group_size}{axis}",
                "" if self.cluster_dim == 1 else f", vectors of {self.cluster_dim}",
                "" if self.mode == "kmeans" else f", {self.mode}",
            )
        )

    @property
    def label(self) -> str:
        return self.family_label if self.nbits is None else f"{self.nbits}-bit {self.family_label}"


@dataclass(frozen=True, slots=True)
class LinearQuantize(Scheme):
    """Store a weight as integers with a scale, and where needed a zero point, per tensor, channel or block.

    Parameters
    ----------
    dtype
        "int8" or "uint8", or with iOS18 "int4" or "uint4" (coremltools 9 `OpLinearQuantizerConfig.dtype`).
    granularity
        "per_channel" (of the output axis, the default), "per_tensor", or "per_block" (iOS18).
    block_size
        Only with "per_block". A number: input channels that share a scale, each output channel by itself. A tuple: the
        block's extent on every axis of the weight, 0 for the whole axis. Must divide the channels.
    mode
        "linear_symmetric" (zero is in the middle of the range) or "linear" (a zero point is stored).

    Raises
    ------
    SchemeError
        For a dtype, granularity or mode that coremltools cannot store.
    """

    dtype: LinearDtype = "int8"
    granularity: LinearGranularity = "per_channel"
    block_size: int | tuple[int, ...] | None = None
    mode: LinearMode = "linear_symmetric"

    def __post_init__(self) -> None:
        _check_choice(self, "dtype", ("int8", "uint8", "int4", "uint4"))
        _check_choice(self, "granularity", ("per_tensor", "per_channel", "per_block"))
        _check_choice(self, "mode", ("linear_symmetric", "linear"))
        if self.granularity == "per_block":
            if self.block_size is None:
                object.__setattr__(self, "block_size", 32)
            if isinstance(self.block_size, list):
                object.__setattr__(self, "block_size", tuple(self.block_size))
            if isinstance(self.block_size, tuple):
                if not self.block_size or not all(_is_whole(size) and size >= 0 for size in self.block_size):
                    message = f"LinearQuantize needs a whole block_size for every axis, not {self.block_size!r}."
                    raise SchemeError(message)
            else:
                _check_positive(self, "block_size")
        elif self.block_size is not None:
            message = 'LinearQuantize takes a block_size only with granularity="per_block".'
            raise SchemeError(message)

    @property
    def bits(self) -> float:
        return self.nbits

    @property
    def nbits(self) -> int:
        """Width of one integer."""
        return 4 if self.dtype.endswith("4") else 8

    @property
    def signed(self) -> bool:
        """Whether the integers have a sign."""
        return not self.dtype.startswith("u")

    @property
    def has_zero_point(self) -> bool:
        """Whether zero points are needed; iOS16 and iOS17 store them all the same."""
        return self.mode == "linear" or not self.signed

    @property
    def key(self) -> str:
        return f"{self.family}:{self.dtype}"

    @property
    def family(self) -> str:
        grain = self.granularity.removeprefix("per_") + self._block("x")
        mode = "" if self.mode == "linear_symmetric" else ":asymmetric"
        return f"linear:{grain}{mode}{'' if self.signed else ':unsigned'}"

    @property
    def family_label(self) -> str:
        grain = self.granularity.replace("_", "-") + (f" {self._block('×')}" if self.block_size else "")
        mode = "" if self.mode == "linear_symmetric" else ", asymmetric"
        return f"linear, {grain}{mode}{'' if self.signed else ', unsigned'}"

    def _block(self, between: str) -> str:
        if isinstance(self.block_size, tuple):
            return between.join(map(str, self.block_size))
        return str(self.block_size or "")


@dataclass(frozen=True, slots=True)
class Prune(Scheme):
    """Store a weight without its zeros, after setting its smallest elements to zero.

    Parameters
    ----------
    target_sparsity
        Part of the elements to set to zero, 0 to 1.
    n_m_ratio
        (n, m): of every m elements along `dim`, the n smallest. Only for weights of conv and linear.
    threshold
        Everything of this magnitude or less.
    block_size
        With `target_sparsity`: prune this many neighbours along `dim` together. Only for weights of conv and linear.
    dim
        0 (output channels, the default of `block_size`) or 1 (input channels, the default of `n_m_ratio`).

    Raises
    ------
    SchemeError
        Unless exactly one of `target_sparsity`, `n_m_ratio` and `threshold` is given, in its range.
    """

    target_sparsity: float | None = None
    n_m_ratio: tuple[int, int] | None = None
    threshold: float | None = None
    block_size: int | None = None
    dim: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("target_sparsity", "n_m_ratio", "threshold") if getattr(self, name) is not None]
        if len(given) != 1:
            message = "Prune needs exactly one of target_sparsity, n_m_ratio and threshold."
            raise SchemeError(message)
        if self.n_m_ratio is not None:
            _check_ratio(self)
        else:
            _check_range(self, given[0], 1.0 if given[0] == "target_sparsity" else float("inf"))
        if self.block_size is not None:
            if self.target_sparsity is None:
                message = "Prune takes a block_size only with target_sparsity."
                raise SchemeError(message)
            if not _is_whole(self.block_size) or self.block_size < 2:
                message = f"Prune needs a whole block_size of 2 or more, not {self.block_size!r}."
                raise SchemeError(message)
        if self.is_structured and self.dim is None:
            object.__setattr__(self, "dim", 0 if self.n_m_ratio is None else 1)
        if self.dim is not None and (not self.is_structured or self.dim not in (0, 1)):
            message = f"Prune takes dim 0 or 1, and only with n_m_ratio or block_size, not {self.dim!r}."
            raise SchemeError(message)

    @property
    def is_structured(self) -> bool:
        """Whether neighbours are pruned together."""
        return self.n_m_ratio is not None or self.block_size is not None

    @property
    def kept(self) -> float:
        """Part of the elements that stay, before any zeros that the weight has by itself; 1 for a threshold."""
        if self.n_m_ratio is not None:
            return 1 - self.n_m_ratio[0] / self.n_m_ratio[1]
        return 1.0 if self.target_sparsity is None else 1 - self.target_sparsity

    @property
    def bits(self) -> float:
        return round(_DENSE_BITS * self.kept, 2)

    @property
    def key(self) -> str:
        if self.n_m_ratio is not None:
            return f"{self.family}:{self.n_m_ratio[0]}:{self.n_m_ratio[1]}"
        return f"{self.family}:{self.target_sparsity if self.threshold is None else self.threshold!r}"

    @property
    def family(self) -> str:
        if self.threshold is not None:
            return "prune:threshold"
        if self.n_m_ratio is not None:
            return f"prune:nm:dim{self.dim}"
        return "prune" if self.block_size is None else f"prune:block{self.block_size}:dim{self.dim}"

    @property
    def family_label(self) -> str:
        if self.threshold is not None:
            return "prune by threshold"
        if self.n_m_ratio is not None:
            return f"prune n:m, {_DIM_LABELS[self.dim or 0]}"
        return "prune" + self._blocks

    @property
    def label(self) -> str:
        if self.threshold is not None:
            return f"pruned to {self.threshold:g}"
        if self.n_m_ratio is not None:
            return f"{self.n_m_ratio[0]}:{self.n_m_ratio[1]} pruned, {_DIM_LABELS[self.dim or 0]}"
        return f"{100 * (self.target_sparsity or 0):g} % pruned{self._blocks}"

    @property
    def _blocks(self) -> str:
        return "" if self.block_size is None else f", blocks of {self.block_size} {_DIM_LABELS[self.dim or 0]}"


_DIM_LABELS = ("output channels", "input channels")


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
    def bits(self) -> float:
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


@dataclass(frozen=True, slots=True)
class Joint(Scheme):
    """Several schemes applied one after the other (iOS18); made with `+`.

    Parameters
    ----------
    parts
        Prune and then palettize or quantize what is left; palettize and then quantize the tables (8 bits, per tensor);
        prune, palettize and quantize the tables; or quantize to 8 bits and then palettize the integers.

    Raises
    ------
    SchemeError
        For any other sequence.
    """

    parts: tuple[Scheme, ...]

    def __post_init__(self) -> None:
        reason = _unjoinable(self.parts)
        if reason is not None:
            raise SchemeError(reason)

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))

    @property
    def prune(self) -> Prune | None:
        """The pruning among the parts."""
        return part(self, Prune)

    @property
    def tables_quantized(self) -> bool:
        """Whether the look-up tables are integers, rather than the data."""
        return isinstance(self.parts[-1], LinearQuantize) and part(self, Palettize) is not None

    @property
    def bits(self) -> float:
        palette, linear = part(self, Palettize), part(self, LinearQuantize)
        data = palette if palette is not None else linear
        kept = 1.0 if self.prune is None else self.prune.kept
        return round(kept * data.bits, 2) if data is not None else _DENSE_BITS

    @property
    def key(self) -> str:
        return "+".join(scheme.key for scheme in self.parts)

    @property
    def family(self) -> str:
        """Everything but the width of the data, so that the stops of its slider differ in that alone."""
        return "+".join(scheme.family if scheme is self._data else scheme.key for scheme in self.parts)

    @property
    def family_label(self) -> str:
        return " + ".join(self._labels(with_width=False))

    @property
    def label(self) -> str:
        return " + ".join(self._labels(with_width=True))

    @property
    def _data(self) -> Scheme:
        palette = part(self, Palettize)
        return self.parts[-1] if palette is None else palette

    def _labels(self, *, with_width: bool) -> Iterable[str]:
        for scheme in self.parts:
            if scheme is self._data and not with_width:
                yield scheme.family_label
            elif self.tables_quantized and isinstance(scheme, LinearQuantize):
                yield f"{scheme.dtype} tables{'' if scheme.mode == 'linear_symmetric' else ', asymmetric'}"
            else:
                yield scheme.label


AnyScheme = TypeVar("AnyScheme", bound=Scheme)


def part(scheme: Scheme, kind: type[AnyScheme]) -> AnyScheme | None:
    """Return the part of a scheme that is of one kind, or None."""
    return next((found for found in scheme.parts if isinstance(found, kind)), None)


_SEQUENCES = (
    (Prune, Palettize),
    (Prune, LinearQuantize),
    (Palettize, LinearQuantize),
    (Prune, Palettize, LinearQuantize),
    (LinearQuantize, Palettize),
)


def _unjoinable(parts: tuple[Scheme, ...]) -> str | None:
    """Say why schemes cannot follow each other, or None; all of it is what coremltools 9 does when tried."""
    if tuple(type(scheme) for scheme in parts) not in _SEQUENCES:
        return (
            f"{' + '.join(type(scheme).__name__ for scheme in parts)} cannot be joined. coremltools joins Prune + "
            "Palettize, Prune + LinearQuantize, Palettize + LinearQuantize (the tables), Prune + Palettize + "
            "LinearQuantize (the tables) and LinearQuantize + Palettize."
        )
    first, last = parts[0], parts[-1]
    palette = next((scheme for scheme in parts if isinstance(scheme, Palettize)), None)
    if palette is not None and palette.cluster_dim > 1 and palette is not first:
        return "Vector palettes (cluster_dim > 1) join only with tables of integers, as Palettize + LinearQuantize."
    if isinstance(last, LinearQuantize) and palette is not None:
        if last.granularity != "per_tensor" or last.nbits != 8:
            return 'Tables are quantized to 8 bits per tensor: add LinearQuantize("int8", "per_tensor").'
    elif isinstance(first, LinearQuantize) and first.nbits != 8:
        return "Only 8-bit integers can be palettized: Core ML has no tables of 4-bit integers."
    return None


def _check_choice(scheme: Scheme, name: str, allowed: tuple[str, ...]) -> None:
    value = getattr(scheme, name)
    if value not in allowed:
        message = f"{type(scheme).__name__} does not know {name} {value!r}: use one of {', '.join(allowed)}."
        raise SchemeError(message)


def _check_positive(scheme: Scheme, name: str) -> None:
    value = getattr(scheme, name)
    if not _is_whole(value) or value < 1:
        message = f"{type(scheme).__name__} needs a positive whole {name}, not {value!r}."
        raise SchemeError(message)


def _check_range(scheme: Scheme, name: str, most: float) -> None:
    value = getattr(scheme, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        limits = "0 or more" if most > 1 else "0 to 1"
        message = f"{type(scheme).__name__} needs a {name} of {limits}, not {value!r}."
        raise SchemeError(message)
    object.__setattr__(scheme, name, float(value))


def _check_ratio(scheme: Prune) -> None:
    ratio = scheme.n_m_ratio
    whole = isinstance(ratio, (tuple, list)) and len(ratio) == 2 and all(_is_whole(number) for number in ratio)
    if not whole or not 1 <= ratio[0] <= ratio[1]:  # type: ignore[index]
        message = f"Prune needs an n_m_ratio of two whole numbers with 1 ≤ n ≤ m, not {ratio!r}."
        raise SchemeError(message)
    object.__setattr__(scheme, "n_m_ratio", tuple(ratio))  # type: ignore[arg-type]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_determined(scheme: Scheme) -> bool:
    """Whether the values that a weight gets are known beforehand to the last bit: nothing is clustered."""
    if isinstance(scheme, Joint):
        return all(isinstance(simple, (Prune, LinearQuantize)) for simple in scheme.parts)
    return not isinstance(scheme, Palettize) or scheme.mode in ("uniform", "unique")
