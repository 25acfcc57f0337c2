"""What a scheme does to the values of a weight: its squared error, and the values that come out.

Palettes get the best table there is (`clustering`), which is what `compress()` can write through coremltools' custom
mode. Linear quantization is rounded as coremltools rounds it, so those errors are exact.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from coremltools.optimize.coreml._quantization_passes import linear_quantize_weights, palettize_weights

from talaria_nb import quantization
from talaria_nb.clustering import best_table, cluster, residuals
from talaria_nb.contents import Contents, prune
from talaria_nb.errors import SchemeError
from talaria_nb.histograms import Histogram, histogram
from talaria_nb.legality import refused
from talaria_nb.schemes import Float16, Joint, LinearQuantize, Palettize, Prune, Scheme, part
from talaria_nb.subjects import subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from coremltools.optimize._utils import QuantParams
    from numpy.typing import NDArray

    from talaria_nb.program import Program

ChannelAxes = tuple[int, int] | None


def dequantized(values: NDArray[np.floating], scheme: Scheme, *, channel_axes: ChannelAxes) -> NDArray[np.floating]:
    """Return what a weight becomes under a scheme.

    Parameters
    ----------
    values
        The weight, float16 or float32, finite.
    scheme
        A legal scheme; see `legality.refusal`.
    channel_axes
        (input axis, output axis) as coremltools infers them.

    Returns
    -------
    array
        The shape and dtype of `values`. Bit for bit what coremltools stores, on every deployment target; but for
        k-means palettes of scalars the values of the best tables.

    Raises
    ------
    SchemeError
        If a value is infinite or not a number, or the scheme is what a package was loaded with.
    """
    check_finite(values)
    if isinstance(scheme, Float16):
        return values
    if isinstance(scheme, LinearQuantize):
        return _dequantized(values, scheme, _block_sizes(scheme, values.ndim, channel_axes))
    if isinstance(scheme, Palettize):
        return _depalettized(values, scheme, channel_axes)
    if isinstance(scheme, Prune):
        return prune(values, scheme)
    if isinstance(scheme, Joint):
        return _jointly_dequantized(values, scheme, channel_axes)
    message = f"What {scheme!r} does to values is not known before coremltools applied it."
    raise SchemeError(message)


def palette(
    values: NDArray[Any], scheme: Palettize, channel_axes: ChannelAxes
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Find the best tables for a weight, laid out as coremltools' `mode="custom"` asks its `lut_function` for them.

    Parameters
    ----------
    values, channel_axes
        As in `dequantized`; or integers of at most 8 bits.
    scheme
        A legal k-means palette of scalars.

    Returns
    -------
    tables
        In the dtype of `values`, shape (groups, 2**nbits), ascending; zeros fill what a group does not need.
    indices
        uint8, shape (groups, elements). coremltools calls a `lut_function` once for each group, in this order, with
        the group's values after its channel axis and the first were swapped; it returns `tables[group]` and
        `indices[group]`.

    Raises
    ------
    SchemeError
        If a value is infinite or not a number.
    """
    groups = _groups(values, scheme, channel_axes)
    if np.issubdtype(values.dtype, np.integer):
        tables, indices = cluster(groups.astype(np.float32), table_size(scheme))
        return np.round(tables).astype(values.dtype), indices
    check_finite(values)
    return cluster(groups, table_size(scheme))


def squared_errors(
    values: NDArray[np.floating],
    schemes: Sequence[Scheme],
    *,
    channel_axes: ChannelAxes,
    checkpoint: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """Return the squared error of a weight under each of several schemes.

    Parameters
    ----------
    values, channel_axes
        As in `dequantized`, but values may be infinite.
    schemes
        Legal schemes; those that look at the values in the same groups share the work.
    checkpoint
        Called again and again; what it raises ends the work.

    Returns
    -------
    array
        float64, shape (schemes,). NaN for every scheme but `Float16()` where a value is infinite or not a number, and
        where coremltools would store such a value.
    """
    errors = np.full(len(schemes), np.nan)
    errors[[isinstance(scheme, Float16) for scheme in schemes]] = 0.0
    if not _is_finite(values):
        return errors
    whole = cache(partial(histogram, values))
    contents = Contents(lambda: values)
    by_group: dict[tuple[int | None, int | None], dict[int, Palettize]] = {}
    by_block: dict[tuple[int, ...], list[int]] = {}
    for column, scheme in enumerate(schemes):
        checkpoint()
        first = scheme.parts[0]
        if isinstance(first, Palettize) and is_clustered(first):
            by_group.setdefault((first.channel_axis, first.group_size), {})[column] = first
        elif isinstance(scheme, LinearQuantize):
            by_block.setdefault(_block_sizes(scheme, values.ndim, channel_axes), []).append(column)
        elif isinstance(scheme, (Palettize, Prune, Joint)):
            errors[column] = _pruned_error(values, scheme, contents, whole)
            if np.isnan(errors[column]):
                difference = _difference(values, dequantized(values, scheme, channel_axes=channel_axes))
                errors[column] = np.sum(difference**2)
    for (_, group_size), palettes in by_group.items():
        one_of_them, *_ = palettes.values()
        groups = map(histogram, _groups(values, one_of_them, channel_axes)) if group_size else [whole()]
        counts = list(map(table_size, palettes.values()))
        tables = [part(schemes[column], LinearQuantize) for column in palettes]
        errors[list(palettes)] = _palette_errors(groups, counts, tables, values.dtype, checkpoint)
    for sizes, columns in by_block.items():
        checkpoint()
        linear = [scheme for scheme in map(schemes.__getitem__, columns) if isinstance(scheme, LinearQuantize)]
        errors[columns] = _linear_errors(values, linear, sizes, whole)
    return np.where(np.isfinite(errors), errors, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Distortions:
    """Squared errors of every weight of a program under every scheme.

    Attributes
    ----------
    squared_error
        float64, shape (weights, schemes); NaN where a scheme is illegal or a value infinite.
    signal
        Sum of squared values of each weight. float64, shape (weights,).
    """

    squared_error: NDArray[np.float64]
    signal: NDArray[np.float64]


def distortions(
    program: Program,
    weight_value: Callable[[str], NDArray[np.floating]],
    schemes: Sequence[Scheme],
    *,
    threads: int | None = None,
    checkpoint: Callable[[], None] = lambda: None,
) -> Distortions:
    """Find the squared error of every weight under every scheme, one weight a thread.

    Parameters
    ----------
    program
        The program.
    weight_value
        Returns a weight's values by its name, such as `Model.weight_value`.
    schemes
        The columns.
    threads
        How many at most; as many as there are processors if None, and no other than the caller's if 1.
    checkpoint
        Called again and again; what it raises ends the work.
    """
    weights = program.weights

    def row(index: int) -> tuple[NDArray[np.float64], float]:
        weight = subject(program, index)
        legal = [column for column, scheme in enumerate(schemes) if refused(scheme, weight) is None]
        # As loaded it is exact, however it is stored.
        chosen = [Float16() if schemes[column] == weight.start else schemes[column] for column in legal]
        errors = np.full(len(schemes), np.nan)
        values = weight_value(weights.name[index])
        errors[legal] = squared_errors(values, chosen, channel_axes=weight.channel_axes, checkpoint=checkpoint)
        return errors, signal(values)

    largest_first = np.argsort(-weights.elements, kind="stable").tolist()
    for first in largest_first[:1]:
        weight_value(weights.name[first])  # opens what the threads then read
    if threads == 1:
        rows = {index: row(index) for index in largest_first}
    else:
        processors = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()
        with ThreadPoolExecutor(threads or processors) as pool:
            rows = dict(zip(largest_first, pool.map(row, largest_first), strict=True))
    return Distortions(
        np.array([rows[index][0] for index in range(len(weights))]).reshape(len(weights), len(schemes)),
        np.array([rows[index][1] for index in range(len(weights))]),
    )


def signal(values: NDArray[np.floating]) -> float:
    """Return the sum of squared values."""
    return quantization.sum_of_squares(quantization.widened(values))


def _palette_errors(
    groups: Iterable[Histogram],
    counts: Sequence[int],
    tables: Sequence[LinearQuantize | None],
    dtype: np.dtype[np.floating],
    checkpoint: Callable[[], None],
) -> list[float]:
    """Return the squared errors of palettes of some sizes, whose tables may be quantized."""
    fits: dict[int, list[_Fit]] = {count: [] for count in counts}
    within = 0.0
    for group in groups:
        checkpoint()
        within += group.within
        for count, found in fits.items():
            found.append(_fit(group.points, group.weights, best_table(group, count), count))
    return [within + _palette_error(fits[count], linear, dtype) for count, linear in zip(counts, tables, strict=True)]


class _Fit(NamedTuple):
    """The table of a group, padded with zeros, and how the values lie about it; see `residuals`."""

    table: NDArray[np.float64]
    squares: float
    masses: NDArray[np.float64]
    pulls: NDArray[np.float64]


def _fit(points: NDArray[np.float64], weights: NDArray[np.float64], table: NDArray[np.float64], count: int) -> _Fit:
    padded, masses, pulls = np.zeros((3, count))
    padded[: len(table)] = table
    squares = residuals(points, weights, table, masses, pulls)
    return _Fit(padded, squares, masses, pulls)


def _palette_error(fits: Sequence[_Fit], tables: LinearQuantize | None, dtype: np.dtype[np.floating]) -> float:
    """Add up the squared error of all groups, whose tables may be quantized together."""
    error = sum(fit.squares for fit in fits)
    if tables is not None:
        entries = np.stack([fit.table for fit in fits])
        off = entries - _dequantized(entries.astype(dtype), tables, (0, 0))
        masses, pulls = np.stack([fit.masses for fit in fits]), np.stack([fit.pulls for fit in fits])
        error += float(np.sum(2 * off * pulls + off**2 * masses))
    return error


def _pruned_error(
    values: NDArray[np.floating], scheme: Scheme, contents: Contents, whole: Callable[[], Histogram]
) -> float:
    """Return the squared error of unstructured pruning, and of one table for what is left; NaN for anything else."""
    first, *rest = scheme.parts
    palette = part(scheme, Palettize)
    one_table = palette is not None and is_clustered(palette) and palette.group_size is None
    if not isinstance(first, Prune) or values.dtype != np.float16 or (rest and not one_table):
        return np.nan
    cut = contents.cut(first)
    if cut is None:
        return np.nan
    points, weights = whole().points, whole().weights
    kept = np.abs(points) > float(np.array(cut, np.uint16).view(np.float16))
    error = float(weights[~kept] @ points[~kept] ** 2)
    if palette is None:
        return error
    table = best_table(whole().zeroed(~kept), table_size(palette))
    fit = _fit(points[kept], weights[kept], table, table_size(palette))
    return error + _palette_error([fit], part(scheme, LinearQuantize), values.dtype)


def _linear_errors(
    values: NDArray[np.floating],
    schemes: Sequence[LinearQuantize],
    sizes: tuple[int, ...],
    whole: Callable[[], Histogram],
) -> list[float]:
    if not any(sizes) and values.dtype == np.float16:
        points, weights = whole().points, whole().weights
        halves = points.astype(np.float16)
        return [float(weights @ _difference(points, _dequantized(halves, scheme, (0,))) ** 2) for scheme in schemes]
    blocks = quantization.blocks(values, sizes)
    return [
        quantization.squared_error(blocks, *_integers(scheme), symmetric=scheme.mode == "linear_symmetric")
        for scheme in schemes
    ]


def _dequantized(values: NDArray[np.floating], scheme: LinearQuantize, sizes: tuple[int, ...]) -> NDArray[np.floating]:
    restored: NDArray[np.floating] = linear_quantize_weights.decompress(_quantized(values, scheme, sizes))
    return restored


def _quantized(values: NDArray[np.floating], scheme: LinearQuantize, sizes: tuple[int, ...]) -> QuantParams:
    with np.errstate(all="ignore"):  # coremltools divides zeros by zero in blocks of zeros
        return linear_quantize_weights.blockwise_compress_by_dtype(
            values, scheme.dtype, scheme.mode.upper(), list(sizes)
        )


def _integers(scheme: LinearQuantize) -> tuple[int, int]:
    """Return the lowest and highest integer, as coremltools' `get_quant_range` has them."""
    if scheme.signed:
        lowest, highest = -(2 ** (scheme.nbits - 1)), 2 ** (scheme.nbits - 1) - 1
    else:
        lowest, highest = 0, 2**scheme.nbits - 1
    if scheme.mode == "linear_symmetric":
        return (lowest + 1, highest) if scheme.signed else (lowest, highest - 1)
    return lowest, highest


def _block_sizes(scheme: LinearQuantize, rank: int, channel_axes: ChannelAxes) -> tuple[int, ...]:
    """Return the extent on each axis of what shares a scale, 0 for the whole axis."""
    if isinstance(scheme.block_size, tuple):
        return scheme.block_size
    sizes = [0] * rank
    if scheme.granularity != "per_tensor":
        input_axis, output_axis = channel_axes if channel_axes is not None else (1, 0)
        if scheme.block_size is not None:
            sizes[input_axis] = scheme.block_size
        sizes[output_axis] = 1
    return tuple(sizes)


def _depalettized(
    values: NDArray[Any], scheme: Palettize, channel_axes: ChannelAxes, tables: LinearQuantize | None = None
) -> NDArray[Any]:
    """Return what becomes of values, or of integers, under a palette, whose tables may be quantized."""
    axis = _group_axis(scheme, channel_axes)
    if is_clustered(scheme):
        entries, indices = palette(values, scheme, channel_axes)
        if tables is not None:
            entries = _dequantized(entries, tables, (0, 0))
        moved = np.swapaxes(values, 0, axis)
        return np.swapaxes(np.take_along_axis(entries, indices, axis=1).reshape(moved.shape), 0, axis)
    sizes = [0] * values.ndim
    sizes[axis] = scheme.group_size or 0
    with np.errstate(all="ignore"):
        stored = palettize_weights.blockwise_compress(
            values, scheme.mode.upper(), scheme.nbits, sizes, None, scheme.cluster_dim, axis
        )
    if tables is not None:
        stored = stored._replace(lut=_dequantized(stored.lut, tables, (0,) * stored.lut.ndim))
    return np.asarray(palettize_weights.decompress(stored))


def _jointly_dequantized(
    values: NDArray[np.floating], scheme: Joint, channel_axes: ChannelAxes
) -> NDArray[np.floating]:
    first, *others = scheme.parts
    if isinstance(first, Prune):
        # coremltools palettizes or quantizes the zeros along with the rest, and leaves them zero.
        rest = others[0] if len(others) == 1 else Joint(tuple(others))
        pruned = prune(values, first)
        return np.where(pruned != 0, dequantized(pruned, rest, channel_axes=channel_axes), pruned)
    palettes, linear = part(scheme, Palettize), part(scheme, LinearQuantize)
    assert palettes is not None and linear is not None  # noqa: S101, PT018 - all other joints are refused
    if first is palettes:
        return _depalettized(values, palettes, channel_axes, tables=linear)
    stored = _quantized(values, linear, _block_sizes(linear, values.ndim, channel_axes))
    integers = _depalettized(stored.data.astype(np.int32), palettes, channel_axes).astype(stored.data.dtype)
    restored: NDArray[np.floating] = linear_quantize_weights.decompress(stored._replace(data=integers))
    return restored


def is_clustered(scheme: Palettize) -> bool:
    """Tell whether its tables are found here rather than by coremltools."""
    return scheme.mode == "kmeans" and scheme.cluster_dim == 1


def table_size(scheme: Palettize) -> int:
    """Return how many entries a table has at most."""
    if scheme.nbits is None:
        raise SchemeError(f"{scheme!r} has no tables of a known size.")
    return int(2**scheme.nbits)


def _group_axis(scheme: Palettize, channel_axes: ChannelAxes) -> int:
    if scheme.channel_axis is not None:
        return scheme.channel_axis
    return 0 if channel_axes is None else channel_axes[1]


def _groups(values: NDArray[Any], scheme: Palettize, channel_axes: ChannelAxes) -> NDArray[Any]:
    """Return the values of each group in one row, in coremltools' order."""
    moved = np.swapaxes(values, 0, _group_axis(scheme, channel_axes))
    return moved.reshape(1 if scheme.group_size is None else len(moved) // scheme.group_size, -1)


def _difference(values: NDArray[np.floating], restored: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(np.subtract(values, restored, dtype=np.float64))


def _is_finite(values: NDArray[np.floating]) -> bool:
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    # numpy's own test converts every float16
    exponent = np.uint16(0x7C00)
    return bool(((values.view(np.uint16) & exponent) != exponent).all())


def check_finite(values: NDArray[np.floating]) -> None:
    """Refuse values of which no scheme but float16 can make anything."""
    if not _is_finite(values):
        raise SchemeError("The weight holds values that are infinite or not numbers, so it can only stay as it is.")
