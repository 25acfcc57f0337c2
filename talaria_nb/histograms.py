"""Histograms of weights: float16 has 65,536 values at most, so a weight of any size is a short list of them.

Values of float32 are counted by the float16 that they are nearest to after scaling, and a point is then the mean of
what was counted there. Nothing here knows what a scheme is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.loops import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODES = 1 << 16
NEGATIVE_ZERO = 0x8000

_KEYS = np.arange(CODES, dtype=np.uint16)
_CODE_OF_KEY = np.where(_KEYS < CODES // 2, ~_KEYS, _KEYS ^ np.uint16(CODES // 2)).astype(np.uint16)
"""Bit patterns of all float16 in ascending order of their values; 0 is in the middle, and -0 just before it."""

with np.errstate(invalid="ignore"):
    _VALUE_OF_KEY = _CODE_OF_KEY.view(np.float16).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Distinct values of a group.

    Attributes
    ----------
    points, weights
        Ascending, and how often each occurs. A float32 point is the mean of what shares its code. float64.
    codes
        float16 bit pattern of each point; zeros of both signs are counted under 0.
    single
        Whether the values are float32.
    within
        Squared distances of the values to their points; 0 for float16.
    spread
        (Σ C^⅓·Δ^⅔)³ / 12 over the points, C values in a gap of Δ: about n² times the squared error of the n best
        centroids, where they are many (Panter and Dite, "Quantization distortion in pulse-count modulation with
        nonuniform spacing of levels", Proc. IRE 39/1, 1951).
    median, sums
        Prefix sums of 1, x and x² with x counted from the median, shape (points + 1, 3). They run outward from it, so
        that a huge value does not wash out the differences of small ones.
    """

    points: NDArray[np.float64]
    weights: NDArray[np.float64]
    codes: NDArray[np.uint16]
    single: bool
    within: float
    spread: float
    median: float
    sums: NDArray[np.float64]

    def zeroed(self, zero: NDArray[np.bool_]) -> Histogram:
        """Return the histogram of the values once some of its points have become zero."""
        kept = ~zero & (self.points != 0)
        points, codes, weights = self.points[kept], self.codes[kept], self.weights[kept]
        zeros = self.weights.sum() - weights.sum()
        if zeros:
            place = np.searchsorted(points, 0.0)
            points, codes, weights = (
                np.insert(points, place, 0.0),
                np.insert(codes, place, np.uint16(0)),
                np.insert(weights, place, zeros),
            )
        sums, spread, median = _moments(points, weights)
        return Histogram(points, weights, codes, self.single, self.within, spread, median, sums)


def histogram(values: NDArray[np.floating]) -> Histogram:
    """Count the values of one group: finite, float16 or float32, of any shape."""
    codes = codes_of(values)
    keys, weights = _counted(codes)
    points, codes_of_points, within = _VALUE_OF_KEY[keys], _CODE_OF_KEY[keys], 0.0
    if values.dtype != np.float16:
        singles = np.ravel(values)
        point_of_code = np.zeros(CODES, dtype=np.int64)
        point_of_code[codes_of_points] = np.arange(len(points))
        point_of_code[NEGATIVE_ZERO] = point_of_code[0]
        point = point_of_code[codes]
        points = np.bincount(point, singles) / weights
        within = float(np.sum((singles - points[point]) ** 2))
    sums, spread, median = _moments(points, weights)
    return Histogram(points, weights, codes_of_points, values.dtype != np.float16, within, spread, median, sums)


def codes_of(values: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Return the float16 bit patterns that values are counted by, flat."""
    flat = np.ascontiguousarray(values).ravel()
    if flat.dtype != np.float16:
        _, exponent = np.frexp(np.max(np.abs(flat), initial=0.0))
        flat = np.ldexp(flat, 15 - exponent).astype(np.float16)
    codes: NDArray[np.uint16] = flat.view(np.uint16)
    return codes


@compiled
def _counted(codes: NDArray[np.uint16]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the places in `_CODE_OF_KEY` of the codes that occur, ascending, and how often each does."""
    counts = np.zeros(1 << 16, dtype=np.uint32)
    for code in codes:
        counts[(code ^ 0xFFFF) if code & 0x8000 else (code | 0x8000)] += np.uint32(1)
    counts[0x8000] += counts[0x7FFF]
    counts[0x7FFF] = 0
    keys = np.empty(min(len(codes), len(counts)), dtype=np.int64)
    weights = np.empty(len(keys))
    found = 0
    for key in range(len(counts)):
        if counts[key]:
            keys[found] = key
            weights[found] = counts[key]
            found += 1
    return keys[:found], weights[:found]


@compiled
def _moments(points: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, float]:
    """Return `Histogram`'s sums, spread and median."""
    count = len(points)
    half = weights.sum() / 2
    middle = 0
    upto = weights[0]
    while middle < count - 1 and upto < half:
        middle += 1
        upto += weights[middle]
    median = points[middle]
    sums = np.zeros((count + 1, 3))
    for point in range(middle, count):
        x = points[point] - median
        sums[point + 1, 0] = sums[point, 0] + weights[point]
        sums[point + 1, 1] = sums[point, 1] + weights[point] * x
        sums[point + 1, 2] = sums[point, 2] + weights[point] * x * x
    for point in range(middle - 1, -1, -1):
        x = points[point] - median
        sums[point, 0] = sums[point + 1, 0] - weights[point]
        sums[point, 1] = sums[point + 1, 1] - weights[point] * x
        sums[point, 2] = sums[point + 1, 2] - weights[point] * x * x
    roots = 0.0
    for point in range(count):
        gap = (points[min(point + 1, count - 1)] - points[max(point - 1, 0)]) / 2
        roots += np.cbrt(weights[point] * gap * gap)
    return sums, roots**3 / 12, median
