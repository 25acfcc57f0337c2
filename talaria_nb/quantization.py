"""Squared errors of linear quantization, rounded at every step as coremltools rounds.

coremltools 9 divides, rounds and multiplies in the weight's own float type (`optimize/_utils.py`,
`quantize_weight_by_dtype` and `dequantize_by_scale_and_zp`), so a float16 weight is rounded to float16 before it is
rounded to an integer, and again after. Nothing here knows what a scheme is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.loops import compiled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """The values of a weight, those that share a scale in one row.

    Attributes
    ----------
    values
        float32, shape (scales, elements).
    least, most
        Of each row, in the weight's own dtype, shape (scales,).
    """

    values: NDArray[np.float32]
    least: NDArray[np.floating]
    most: NDArray[np.floating]


def blocks(values: NDArray[np.floating], sizes: Sequence[int]) -> Blocks:
    """Divide a weight into blocks.

    Parameters
    ----------
    values
        float16 or float32.
    sizes
        Extent of a block on each axis, which must divide it; 0 for the whole axis.
    """
    split: list[int] = []
    outer: list[int] = []
    for extent, size in zip(values.shape, sizes, strict=True):
        if size:
            outer.append(len(split))
        split += [extent // size, size] if size else [extent]
    inner = [axis for axis in range(len(split)) if axis not in outer]
    scales = int(np.prod([split[axis] for axis in outer], dtype=np.int64))
    rows = widened(values.reshape(split).transpose(outer + inner)).reshape(scales, -1)
    least, most = _extremes(rows)
    return Blocks(rows, least.astype(values.dtype), most.astype(values.dtype))


def squared_error(blocks: Blocks, lowest: int, highest: int, *, symmetric: bool) -> float:
    """Return the squared error of rounding each block to integers times a scale.

    Parameters
    ----------
    blocks
        From `blocks`.
    lowest, highest
        Range of the integers.
    symmetric
        Whether zero is in the middle of the range, rather than at a zero point that fits the values.

    Returns
    -------
    float
        Infinite or NaN where what coremltools stores is: float16 scales overflow beyond magnitudes of 32,752.
    """
    dtype = blocks.most.dtype
    if symmetric:
        most = np.maximum(np.abs(blocks.least), np.abs(blocks.most))
        least = -most
    else:
        least, most = np.minimum(dtype.type(0), blocks.least), np.maximum(dtype.type(0), blocks.most)
    with np.errstate(over="ignore", invalid="ignore"):  # infinite scales are told by NaN
        span = most - least
        scale = span / dtype.type(highest - lowest)
        if symmetric:
            zero = np.full_like(most, (lowest + highest) // 2)
        else:
            # A block of zeros has no span; coremltools' zero by zero becomes zeros again, as scale 0 does.
            nonzero = np.where(span == 0, dtype.type(1), span)
            zero = np.clip(np.round((lowest * most - highest * least) / nonzero), lowest, highest)
        if not np.isfinite(scale).all():
            return float("nan")
        low, high = ((bound - zero).astype(np.float32) for bound in (lowest, highest))
    return _squared_error(blocks.values, scale.astype(np.float32), low, high, scale.dtype == np.float16)


_STRETCH = 1024

_SINGLE_OF_CODE = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def widened(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return values as float32, flat; by a table, which is several times faster than numpy's conversion of float16."""
    if values.dtype != np.float16:
        return np.ravel(values).astype(np.float32, copy=False)
    return _looked_up(np.ravel(values).view(np.uint16), _SINGLE_OF_CODE)


@compiled
def sum_of_squares(values: NDArray[np.float32]) -> float:
    """Return the sum of squared values of a flat array, added up in float64."""
    total = 0.0
    for value in values:
        total += np.float64(value) ** 2
    return total


@compiled
def _looked_up(codes: NDArray[np.uint16], table: NDArray[np.float32]) -> NDArray[np.float32]:
    singles = np.empty(len(codes), dtype=np.float32)
    for element in range(len(codes)):
        singles[element] = table[codes[element]]
    return singles


@partial(compiled, vectorized=True)
def _extremes(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    least = np.empty(len(rows), dtype=np.float32)
    most = np.empty(len(rows), dtype=np.float32)
    for row in range(len(rows)):
        low = high = rows[row, 0]
        for element in range(rows.shape[1]):
            value = rows[row, element]
            low = value if value < low else low
            high = value if value > high else high
        least[row] = low
        most[row] = high
    return least, most


@partial(compiled, vectorized=True)
def _to_half(value: np.float32) -> np.float32:
    """Round to 11 significant bits, ties to even, as float16 does where it is neither subnormal nor overflows."""
    bits = np.float32(value).view(np.int32)
    odd = (bits >> np.int32(13)) & np.int32(1)
    return np.int32((bits + np.int32(0xFFF) + odd) & np.int32(~0x1FFF)).view(np.float32)


@partial(compiled, vectorized=True)
def _squared_error(
    rows: NDArray[np.float32],
    scales: NDArray[np.float32],
    lows: NDArray[np.float32],
    highs: NDArray[np.float32],
    half: bool,  # noqa: FBT001 - compiled functions take no keywords
) -> float:
    # Written so that LLVM sees through it: loops count, no branch depends on a value, 32-bit constants are spelled out,
    # and float32 adds up no more than a stretch of squares.
    smallest_normal, ulp, per_ulp = np.float32(2.0**-14), np.float32(2.0**-24), np.float32(2.0**24)
    overflow, infinity = np.float32(65520), np.float32(np.inf)
    error = 0.0
    for index in range(len(rows)):
        row, scale, low, high = rows[index], scales[index], lows[index], highs[index]
        for start in range(0, len(row), _STRETCH):
            end = min(start + _STRETCH, len(row))
            squares = np.float32(0)
            if scale == 0:  # everything becomes zero
                for element in range(start, end):
                    squares += row[element] * row[element]
            elif half:
                for element in range(start, end):
                    steps = np.rint(_to_half(row[element] / scale))
                    steps = low if steps < low else steps
                    steps = high if steps > high else steps
                    exact = np.float32(steps * scale)
                    restored = _to_half(exact)
                    restored = np.rint(exact * per_ulp) * ulp if abs(exact) < smallest_normal else restored
                    restored = infinity if abs(exact) >= overflow else restored
                    difference = row[element] - restored
                    squares += difference * difference
            else:
                for element in range(start, end):
                    steps = np.rint(row[element] / scale)
                    steps = low if steps < low else steps
                    steps = high if steps > high else steps
                    difference = row[element] - np.float32(steps * scale)
                    squares += difference * difference
            error += float(squares)
    return error
