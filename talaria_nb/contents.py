"""What of a weight's storage depends on its values: how many are zero, how many are distinct, what comes out equal.

Values are read only when asked for, and every answer is kept. Where coremltools decides, its own code is asked, so that
ties and rounding come out the same; only its percentiles (taken in the weight's own float type) are found here from a
histogram of the values, for a model has to be priced under many sparsities when it is opened.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from coremltools.optimize._utils import compute_qparams
from coremltools.optimize.coreml._quantization_passes import prune_weights

from talaria_nb.schemes import LinearQuantize, Prune

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

_SAMPLED = 4096
"""Elements that are looked at first to tell two contents apart."""
_SAMPLED_BLOCKS = 16
_SAMPLED_NONZEROS = 32


@dataclass(frozen=True, eq=False)
class Content:
    """What is in a stored tensor, compared without storing it: by a hint first, and by all of it where hints agree.

    Attributes
    ----------
    hint
        Quick to find, and equal for equal tensors.
    read
        Returns all of it, or what decides it.
    """

    hint: bytes
    read: Callable[[], NDArray[Any]] = field(repr=False)

    @cached_property
    def digest(self) -> bytes:
        """Digest of all of it."""
        return _digest(self.read())

    def __hash__(self) -> int:
        return hash(self.hint)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Content):
            return NotImplemented
        return self is other or (self.hint == other.hint and self.digest == other.digest)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What is left of a pruned weight.

    Attributes
    ----------
    nonzeros
        Elements that are not zero.
    mask
        Where they are.
    values
        What they are.
    """

    nonzeros: int
    mask: Content
    values: Content


@dataclass(frozen=True, slots=True)
class Integers:
    """What a weight is quantized to.

    Attributes
    ----------
    data, scale, zero_point
        As coremltools stores them.
    extent
        The smallest and the largest integer.
    """

    data: Content
    scale: Content
    zero_point: Content
    extent: Content


class Question(NamedTuple):
    """What decides the content of a stored tensor, without saying of which weight.

    Attributes
    ----------
    about
        Attribute of `Contents`, or with a scheme of what it makes of them: of `Pruned` or `Integers`.
    scheme, counts
        Pruning, or linear quantization with so many scales along each axis.
    """

    about: Literal["extent", "population", "proportions", "mask", "values", "data", "scale", "zero_point"]
    scheme: Prune | LinearQuantize | None = None
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Contents:
    """The values of one weight, as questions that are answered once.

    Attributes
    ----------
    read
        Returns the values; float16 or float32, the weight's shape.
    """

    read: Callable[[], NDArray[np.floating]]
    _pruned: dict[Prune, Pruned] = field(default_factory=dict, repr=False)
    _integers: dict[tuple[LinearQuantize, tuple[int, ...]], Integers] = field(default_factory=dict, repr=False)
    _distinct: dict[tuple[int, int, int, Prune | None], int] = field(default_factory=dict, repr=False)

    def answer(self, question: Question) -> Hashable:
        """Answer a question; what two weights answer alike is equal in both."""
        asked: object = self
        if isinstance(question.scheme, Prune):
            asked = self.pruned(question.scheme)
        elif isinstance(question.scheme, LinearQuantize):
            asked = self.integers(question.scheme, question.counts)
        found: Hashable = getattr(asked, question.about)
        return found

    @cached_property
    def has_infinity(self) -> bool:
        """Whether any value is infinite, as in attention masks."""
        return bool(np.isinf(self.read()).any())

    @cached_property
    def extent(self) -> tuple[float, float]:
        """Smallest and largest value."""
        values = self.read()
        bits, shift = _layout(values.dtype)
        if not shift:  # numpy is slow at comparing float16
            values = np.flatnonzero(self._histogram).astype(bits).view(values.dtype)
        return float(values.min()), float(values.max())

    @cached_property
    def population(self) -> Content:
        """Which values there are and how often, in whatever order: what the table of a palette depends on.

        How often does not count where a table of 256 entries holds them all.
        """
        found = np.flatnonzero(self._histogram)
        return Content(_digest(_rows(found, self._histogram[found])), self._read_population)

    @cached_property
    def proportions(self) -> Content:
        """What the values are up to a common factor: what the indices of a palette depend on."""
        largest = np.float32(max(map(abs, self.extent)) or 1)
        return Content(
            _digest(self.read().ravel()[:_SAMPLED_NONZEROS] / largest), lambda: self.read().astype(np.float32) / largest
        )

    def _read_population(self) -> NDArray[Any]:
        found, counts = np.unique(self.read(), return_counts=True)
        return _rows(found, counts)

    def pruned(self, scheme: Prune) -> Pruned:
        """Tell what is left under a pruning scheme."""
        if scheme not in self._pruned:
            cut = self.cut(scheme)
            self._pruned[scheme] = self._pruned_as(scheme) if cut is None else self._cut_at(cut)
        return self._pruned[scheme]

    def _pruned_as(self, scheme: Prune) -> Pruned:
        values = prune(self.read(), scheme)
        left = values[values != 0]
        mask = np.packbits(values != 0)
        return Pruned(left.size, Content(_digest(mask), lambda: mask), Content(_digest(left), lambda: left))

    def _cut_at(self, cut: int) -> Pruned:
        """Tell what is left above a magnitude, given by its bit pattern."""
        magnitudes = self._magnitudes()
        nonzeros = int(np.count_nonzero(magnitudes > cut))
        start = magnitudes[:_SAMPLED] > cut
        first = self.read().ravel()[:_SAMPLED][start][:_SAMPLED_NONZEROS]
        hint = _digest(first) if len(first) == min(_SAMPLED_NONZEROS, nonzeros) else b""
        return Pruned(
            nonzeros,
            Content(_digest(np.packbits(start)), lambda: np.packbits(self._magnitudes() > cut)),
            Content(hint, lambda: self.read().ravel()[self._magnitudes() > cut]),
        )

    def cut(self, scheme: Prune) -> int | None:
        """Find the magnitude up to which everything is pruned, as its bit pattern; None where it is no such cut."""
        if scheme.is_structured:
            return None
        dtype = self.read().dtype
        bits, shift = _layout(dtype)
        infinite = np.asarray(np.inf, dtype).view(bits)
        if self._upto[-1] != self._upto[infinite >> shift]:
            return None
        sparsity = scheme.target_sparsity
        if sparsity == 1:  # coremltools multiplies by zero
            return None
        with np.errstate(over="ignore"):
            cut = dtype.type(scheme.threshold or 0) if sparsity is None else self._percentile(sparsity * 100)
        return int(np.asarray(cut, dtype).view(bits))

    def _percentile(self, percent: float) -> np.floating:
        """Return what `np.percentile` of the magnitudes returns, which coremltools prunes up to."""
        if percent == 0:
            return np.float32(0)
        elements = int(self._upto[-1])
        place = (elements - 1) * (percent / 100)
        before = min(int(place), elements - 2)
        between = np.array([self._magnitude(before), self._magnitude(before + 1)])
        cut: np.floating = np.quantile(between, float(place - before))
        return cut

    def _magnitude(self, rank: int) -> np.floating:
        """Return the magnitude that has a place, from 0, among all in order."""
        dtype = self.read().dtype
        bits, shift = _layout(dtype)
        place = int(np.searchsorted(self._upto, rank, side="right"))
        if not shift:
            return np.array([place], bits).view(dtype)[0]  # type: ignore[no-any-return]
        magnitudes = self._magnitudes()
        alike = magnitudes[magnitudes >> shift == place]
        at = rank - (int(self._upto[place - 1]) if place else 0)
        found: Any = np.partition(alike, at)
        return found.view(dtype)[at]  # type: ignore[no-any-return]

    def _magnitudes(self) -> NDArray[Any]:
        """Return the bit patterns of all magnitudes, which have the same order as these; the values' own order."""
        values = np.ascontiguousarray(self.read()).ravel()
        bits, _ = _layout(values.dtype)
        patterns: NDArray[Any] = values.view(bits) & bits(np.iinfo(bits).max >> 1)
        return patterns

    @cached_property
    def _histogram(self) -> NDArray[np.int64]:
        """How often the upper 16 bits of the values occur. int64, shape (2**16,)."""
        values = np.ascontiguousarray(self.read()).ravel()
        bits, shift = _layout(values.dtype)
        return np.bincount(values.view(bits) >> shift, minlength=2**16)

    @cached_property
    def _upto(self) -> NDArray[np.int64]:
        """How many magnitudes have at most each pattern of upper bits. int64, shape (2**15,)."""
        positive, negative = self._histogram.reshape(2, -1)
        return np.cumsum(positive + negative)

    def integers(self, linear: LinearQuantize, counts: tuple[int, ...]) -> Integers:
        """Tell what comes out of linear quantization.

        Parameters
        ----------
        linear
            How it is quantized.
        counts
            Scales along each axis.
        """
        key = (linear, counts)
        if key not in self._integers:
            values = self.read()
            sizes = [0 if count == 1 else size // count for count, size in zip(counts, values.shape, strict=True)]
            if any(sizes):
                axis = int(np.argmax(counts))
                blocks = [slice(size or None) for size in sizes]
                blocks[axis] = slice(sizes[axis] * _SAMPLED_BLOCKS)
                sample, sample_sizes, length = values[tuple(blocks)], sizes, None
            else:  # the one scale depends on the extent
                extent = np.array(self.extent, values.dtype)
                sample, sample_sizes = np.concatenate([values.ravel()[:_SAMPLED], extent]), [0]
                length = -len(extent)
            data, scale, zero_point = _quantized(sample, linear, sample_sizes)

            def full() -> tuple[NDArray[np.integer], NDArray[np.floating], NDArray[np.integer]]:
                return _quantized(self.read(), linear, sizes)

            def extent_of_integers() -> NDArray[np.integer]:
                found = full()[0]
                return np.array([found.min(), found.max()])

            self._integers[key] = Integers(
                Content(_digest(data[:length]), lambda: full()[0]),
                Content(_digest(scale), lambda: full()[1]),
                Content(_digest(zero_point), lambda: full()[2]),
                Content(b"", extent_of_integers),
            )
        return self._integers[key]

    def distinct(self, axis: int, groups: int, cluster_dim: int, before: Prune | None = None) -> int:
        """Count the distinct values (or vectors) of the group that has most of them.

        Parameters
        ----------
        axis
            Channel axis.
        groups
            Groups of channels along it.
        cluster_dim
            Length of the vectors.
        before
            Pruning that comes first.
        """
        key = (axis, groups, cluster_dim, before)
        if key not in self._distinct:
            values = self.read() if before is None else prune(self.read(), before)
            split = np.split(np.swapaxes(values, 0, axis), groups)
            if cluster_dim == 1:
                self._distinct[key] = max(len(np.unique(group)) for group in split)
            else:  # coremltools forms the vectors that it counts in just this way
                vectors = (np.swapaxes(group, -1, 0).reshape(-1, cluster_dim) for group in split)
                self._distinct[key] = max(len(np.unique(found, axis=0)) for found in vectors)
        return self._distinct[key]


def _digest(content: NDArray[Any]) -> bytes:
    return hashlib.sha1(np.ascontiguousarray(content).tobytes(), usedforsecurity=False).digest()


def _layout(dtype: np.dtype) -> tuple[type[np.unsignedinteger], int]:
    """Return an integer type as wide as a float type, and how far its upper 16 bits must be shifted down."""
    return (np.uint16, 0) if dtype.itemsize == 2 else (np.uint32, 16)


def _rows(found: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[Any]:
    return np.concatenate([found, counts.astype(np.float64)]) if len(found) > 2**8 else found


def _quantized(
    values: NDArray[np.floating], linear: LinearQuantize, sizes: list[int]
) -> tuple[NDArray[np.integer], NDArray[np.floating], NDArray[np.integer]]:
    """Quantize as coremltools does: integers, scales and zero points (none where it needs none)."""
    mode = "LINEAR_SYMMETRIC" if linear.mode == "linear_symmetric" else "LINEAR"
    data, scale, zero_point = compute_qparams(values, linear.nbits, linear.signed, mode, values.dtype, sizes)
    return data, scale, np.zeros(0, np.int8) if zero_point is None else zero_point


def prune(values: NDArray[np.floating], scheme: Prune) -> NDArray[np.floating]:
    """Set to zero what a pruning scheme does; the dtype and shape of `values`."""
    if scheme.threshold is not None:
        return np.where(np.abs(values) <= scheme.threshold, 0, values)
    values = np.ascontiguousarray(values)  # coremltools adds up magnitudes of blocks in the order of memory
    if scheme.n_m_ratio is not None:
        found = prune_weights.compress_by_nm_sparsity(values, scheme.n_m_ratio, scheme.dim)
    else:
        found = prune_weights.compress_by_magnitude(values, scheme.target_sparsity, scheme.block_size, scheme.dim)
    return np.asarray(prune_weights.decompress(found))
