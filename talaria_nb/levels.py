"""The values that a weight may take under a scheme: its palette, or the levels of its quantization grid."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from coremltools.optimize._utils import get_quant_range
from coremltools.optimize.coreml._quantization_passes import linear_quantize_weights

from talaria_nb.clustering import best_table
from talaria_nb.contents import Contents
from talaria_nb.distortion import check_finite, dequantized, is_clustered, table_size
from talaria_nb.histograms import histogram
from talaria_nb.schemes import Float16, LinearQuantize, Palettize, Prune, Scheme, part
from talaria_nb.subjects import scale_counts, table_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from talaria_nb.subjects import Subject

Place = tuple[slice, ...]
"""Part of a weight: one slice an axis."""


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """The values that stand for those of a weight, in one of the groups that share a table or a scale.

    Attributes
    ----------
    values
        Ascending, each once; empty where values stay as they are. float64.
    place
        The group that they are of.
    group, groups
        Its number, counted from 0, and how many there are.
    zeros
        Share of the weight's values that pruning makes zero, 0 to 1; NaN for a scheme that does not prune.
    """

    values: NDArray[np.float64]
    place: Place
    group: int
    groups: int
    zeros: float


def levels(values: NDArray[np.floating], scheme: Scheme, weight: Subject) -> Levels:
    """Find the values that a weight may take under a scheme.

    Where groups of it have tables or scales of their own, those of one group: the one whose largest magnitude is the
    median of all groups' largest magnitudes. Of linear quantization it is the whole grid, of palettes what is used.

    Parameters
    ----------
    values
        The weight, float16 or float32, finite.
    scheme
        A legal scheme; see `legality.refusal`.
    weight
        What the rules look at of it.

    Raises
    ------
    SchemeError
        As `distortion.dequantized`.
    """
    if not isinstance(scheme, Float16):
        check_finite(values)
    counts = _groups(scheme, weight)
    group = _median_group(values, counts) if max(counts, default=1) > 1 else 0
    place = _place(group, counts, values.shape)
    contents, pruning = weight.contents or Contents(lambda: values), part(scheme, Prune)
    zeros = np.nan if pruning is None else (values.size - contents.pruned(pruning).nonzeros) / values.size
    return Levels(_levels(values, place, scheme, weight, contents), place, group, prod(counts), zeros)


def _levels(
    values: NDArray[np.floating], place: Place, scheme: Scheme, weight: Subject, contents: Contents
) -> NDArray[np.float64]:
    first, *rest = scheme.parts
    if isinstance(scheme, (Float16, Prune)):
        return np.zeros(0)
    if isinstance(scheme, LinearQuantize):
        if values[place].size == values.size:
            return _grid(np.array(contents.extent, values.dtype), scheme)
        return _grid(values[place], scheme)
    if isinstance(scheme, Palettize) and is_clustered(scheme):
        return best_table(histogram(values[place]), table_size(scheme))
    if isinstance(first, Prune) and len(rest) == 1:
        table = _pruned_table(values, first, rest[0], contents)
        if table is not None:
            return table
    # Tables that are quantized together, vectors across channels, values that pruning compares with all others.
    return np.unique(dequantized(values, scheme, channel_axes=weight.channel_axes)[place]).astype(np.float64)


def _pruned_table(
    values: NDArray[np.floating], first: Prune, then: Scheme, contents: Contents
) -> NDArray[np.float64] | None:
    """Return the one table of what pruning by magnitude leaves, and zero; None for anything else."""
    cut = contents.cut(first)
    if cut is None or values.dtype != np.float16 or not isinstance(then, Palettize):
        return None
    if not is_clustered(then) or then.group_size is not None:
        return None
    whole = histogram(values)
    left = whole.zeroed(whole.codes & 0x7FFF <= cut)
    return np.union1d(best_table(left, table_size(then)), 0.0)


def _grid(values: NDArray[np.floating], scheme: LinearQuantize) -> NDArray[np.float64]:
    """Return what every integer stands for, in a group that has one scale: it follows from the extremes."""
    mode, extremes = scheme.mode.upper(), np.array([values.min(), values.max()])
    with np.errstate(all="ignore"):  # coremltools divides zeros by zero in groups of zeros
        stored = linear_quantize_weights.blockwise_compress_by_dtype(extremes, scheme.dtype, mode, [0])
    lowest, highest = get_quant_range(scheme.nbits, scheme.signed, mode)
    integers = np.arange(lowest, highest + 1).astype(stored.data.dtype)
    return np.unique(linear_quantize_weights.decompress(stored._replace(data=integers))).astype(np.float64)


def _groups(scheme: Scheme, weight: Subject) -> tuple[int, ...]:
    """Return into how many groups with tables or scales of their own a weight falls along each axis."""
    palette, linear = part(scheme, Palettize), part(scheme, LinearQuantize)
    if palette is not None and scheme.parts[-1] is not palette:
        linear = None  # it quantizes the tables
    tables = table_counts(palette, weight) if palette else (1,) * len(weight.shape)
    scales = scale_counts(linear, weight) if linear else (1,) * len(weight.shape)
    return tuple(map(max, tables, scales))


def _median_group(values: NDArray[np.floating], counts: tuple[int, ...]) -> int:
    split = [size for extent, count in zip(values.shape, counts, strict=True) for size in (count, extent // count)]
    largest = np.abs(values.reshape(split)).max(axis=tuple(range(1, len(split), 2))).ravel()
    return int(np.argsort(largest, kind="stable")[(len(largest) - 1) // 2])


def _place(group: int, counts: tuple[int, ...], shape: tuple[int, ...]) -> Place:
    at = np.unravel_index(group, counts)
    sizes = [extent // count for extent, count in zip(shape, counts, strict=True)]
    return tuple(slice(int(i) * size, (int(i) + 1) * size) for i, size in zip(at, sizes, strict=True))
