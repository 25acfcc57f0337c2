"""Optimal clustering on a line: the best table of a few values for many, as k-means that never gets stuck finds it.

Weights are float16, so however many there are, they take at most 65,536 values: what is clustered is a histogram. The
optimum on it is found by dynamic programming over bins of values (Wang and Song, "Ckmeans.1d.dp", The R Journal 3/2,
2011), with the divide and conquer over monotone minima that cost matrices of this kind allow. Bins hold even shares of
Σ C^⅓·Δ^⅔ (C values in a gap of Δ), which is how the best centroids themselves are spread when they are many (Panter
and Dite, "Quantization distortion in pulse-count modulation with nonuniform spacing of levels", Proc. IRE 39/1, 1951);
that also says where a boundary is to be looked for. Lloyd's steps on the whole histogram end it.

Nothing here knows what a scheme is. The kernels are compiled by numba on first use and cached on disk; they release
the interpreter's lock, so threads run them side by side.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

Function = TypeVar("Function", bound="Callable[..., Any]")

_CODES = 1 << 16
_INFINITE = 0x7C00
"""Exponent bits of a float16 that is infinite or not a number."""

_DP_WIDTH = 4096
_MIN_HALF_BAND = 32
"""A boundary is looked for this many bins either side of where it is expected, or `_DP_WIDTH` over the number of
clusters if that is more; and again around what was found where that lies at the rim."""

_COARSE_BINS_EACH = 3
"""Bins a cluster in the first of two rounds, where bands are wide enough for boundaries to travel far."""

_MIN_BINS = 1024
_MIN_BINS_EACH = 12
"""Bins over all, and a cluster, in the second round, where there are as many values. With these and the bands above the
squared error is within 1 % of the optimum at 256 clusters and within 0.3 % below, heavy tails included: see
`tests/test_distortion.py`."""

_LLOYD_ROUNDS = 100
_RECENTRINGS = 40


def compiled(function: Function, *, vectorized: bool = False) -> Function:
    """Compile a function with numba, cached on disk where there is a writable place.

    Parameters
    ----------
    function
        To compile, without the interpreter's lock.
    vectorized
        Whether several elements may be worked on at once. Sums are then added up in any order, and nothing in the
        function may be not-a-number.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "nsz", "nnan"} if vectorized else False}
    try:
        return cast("Function", numba.njit(cache=True, **options)(function))
    except RuntimeError:  # numba finds no folder to write to
        return cast("Function", numba.njit(**options)(function))


def cluster_errors(groups: NDArray[np.floating], counts: Sequence[int]) -> NDArray[np.float64]:
    """Find how well tables of some sizes can stand for the values of each group.

    Parameters
    ----------
    groups
        Finite float16 or float32, shape (groups, elements).
    counts
        Sizes of the tables, each 1 to 256.

    Returns
    -------
    array
        Squared errors against the nearest entry of the best table, entries rounded to the values' dtype. float64,
        shape (groups, counts). The histogram of a group is made once for all sizes.
    """
    codes, singles = _coded(groups)
    errors: NDArray[np.float64] = _errors(codes, singles, np.array(counts, dtype=np.int64))
    return errors


def cluster(groups: NDArray[np.floating], count: int) -> tuple[NDArray[np.floating], NDArray[np.uint8]]:
    """Find the best table for each group and the entry nearest to each element.

    Parameters
    ----------
    groups
        Finite float16 or float32, shape (groups, elements).
    count
        Size of the tables, 1 to 256.

    Returns
    -------
    tables
        Ascending, in the values' dtype, shape (groups, count). Where a group takes fewer distinct values than that,
        they are all there and zeros fill the rest, as coremltools does it.
    indices
        uint8, shape (groups, elements).
    """
    codes, singles = _coded(groups)
    tables, indices = _tables(codes, singles, count)
    return tables.astype(groups.dtype), indices


def distinct(values: NDArray[np.float16]) -> tuple[NDArray[np.float16], NDArray[np.float64]]:
    """Return the distinct values of an array, ascending, and how often each occurs; zeros of both signs are one."""
    codes, singles = _coded(values.reshape(1, -1))
    points, weights, _, _ = _histogram(codes[0], singles[0], np.zeros(_CODES, dtype=np.int64))
    return points.astype(np.float16), weights


def _coded(groups: NDArray[np.floating]) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Return float16 bit patterns in which to count, and beside them float32 values that are finer than these."""
    if groups.dtype == np.float16:
        return np.ascontiguousarray(groups).view(np.uint16), np.empty((len(groups), 0), dtype=np.float32)
    singles = np.ascontiguousarray(groups, dtype=np.float32)
    _, exponent = np.frexp(np.max(np.abs(singles), initial=0.0))
    return np.ldexp(singles, 15 - exponent).astype(np.float16).view(np.uint16), singles


_KEYS = np.arange(_CODES, dtype=np.uint16)
_CODE_OF_KEY = np.where(_KEYS < _CODES // 2, ~_KEYS, _KEYS ^ np.uint16(_CODES // 2)).astype(np.uint16)
"""Bit patterns of all float16 in ascending order of their values."""

with np.errstate(invalid="ignore"):
    _VALUE_OF_KEY = _CODE_OF_KEY.view(np.float16).astype(np.float64)


@compiled
def _errors(codes: NDArray[np.uint16], singles: NDArray[np.float32], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    errors = np.empty((len(codes), len(counts)))
    scratch = np.zeros(_CODES, dtype=np.int64)
    for group in range(len(codes)):
        points, weights, _, within = _histogram(codes[group], singles[group], scratch)
        if len(points) == 0:
            errors[group] = np.nan
            continue
        shares = _shares(points, weights)
        median, sums = _sums(points, weights)
        for column in range(len(counts)):
            boundaries = _boundaries(points, shares, median, sums, counts[column])
            table = _rounded_means(points, median, sums, boundaries, singles.shape[1] > 0)
            errors[group, column] = within + _squared_error(points, weights, table)
    return errors


@compiled
def _tables(
    codes: NDArray[np.uint16], singles: NDArray[np.float32], count: int
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    tables = np.zeros((len(codes), count))
    indices = np.empty(codes.shape, dtype=np.uint8)
    scratch = np.zeros(_CODES, dtype=np.int64)
    entry_of_code = np.zeros(_CODES, dtype=np.uint8)
    for group in range(len(codes)):
        points, weights, codes_of_points, _ = _histogram(codes[group], singles[group], scratch)
        median, sums = _sums(points, weights)
        boundaries = _boundaries(points, _shares(points, weights), median, sums, count)
        table = _rounded_means(points, median, sums, boundaries, singles.shape[1] > 0)
        tables[group, : len(table)] = table
        entry = 0
        for point in range(len(points)):
            while entry + 1 < len(table) and points[point] > (table[entry] + table[entry + 1]) / 2:
                entry += 1
            entry_of_code[codes_of_points[point]] = entry
            if points[point] == 0:  # both zeros were counted as one
                entry_of_code[0] = entry
                entry_of_code[_CODES // 2] = entry
        for element in range(codes.shape[1]):
            indices[group, element] = entry_of_code[codes[group, element]]
    return tables, indices


@compiled
def _histogram(
    codes: NDArray[np.uint16], singles: NDArray[np.float32], scratch: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint16], float]:
    """Count codes: points in ascending order, their weights and codes, and the squared error inside the points.

    `scratch` is zero on entry and on return. A float32 point is the mean of what shares its code. Without any points
    if a code is infinite or not a number.
    """
    for code in codes:
        scratch[code] += 1
    occupied = 0
    for code in range(_CODES):
        if scratch[code]:
            occupied += 1
    points = np.empty(occupied)
    weights = np.empty(occupied)
    codes_of_points = np.empty(occupied, dtype=np.uint16)
    found = 0
    finite = True
    for key in range(_CODES):
        code = _CODE_OF_KEY[key]
        count = scratch[code]
        if not count:
            continue
        scratch[code] = 0
        if code & _INFINITE == _INFINITE:
            finite = False
        value = _VALUE_OF_KEY[key]
        if found and points[found - 1] == value:
            weights[found - 1] += count
            continue
        points[found] = value
        weights[found] = count
        codes_of_points[found] = code
        found += 1
    if not finite:
        found = 0
    within = 0.0
    if found and len(singles):
        within = _refine(codes, singles, points[:found], weights[:found], codes_of_points[:found], scratch)
    return points[:found], weights[:found], codes_of_points[:found], within


@compiled
def _refine(
    codes: NDArray[np.uint16],
    singles: NDArray[np.float32],
    points: NDArray[np.float64],
    weights: NDArray[np.float64],
    codes_of_points: NDArray[np.uint16],
    scratch: NDArray[np.int64],
) -> float:
    """Move each point to the mean of the float32 values that share its code; return their squared distances to it."""
    for point in range(len(points)):
        scratch[codes_of_points[point]] = point
        if points[point] == 0:
            scratch[0] = point
            scratch[_CODES // 2] = point
    points[:] = 0
    for element in range(len(codes)):
        points[scratch[codes[element]]] += singles[element]
    points /= weights
    within = 0.0
    for element in range(len(codes)):
        within += (singles[element] - points[scratch[codes[element]]]) ** 2
    scratch[:] = 0
    return within


@compiled
def _shares(points: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return C^⅓·Δ^⅔ of each point: how many of the best centroids it draws to itself, up to a factor."""
    shares = np.empty(len(points))
    last = len(points) - 1
    for point in range(len(points)):
        gap = (points[min(point + 1, last)] - points[max(point - 1, 0)]) / 2
        shares[point] = np.cbrt(weights[point] * gap * gap)
    return shares


@compiled
def _sums(points: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return the median, and prefix sums of 1, x and x² over the points with x counted from it, shape (points + 1, 3).

    They run outward from the median, so that a huge value does not wash out the differences of small ones.
    """
    half = weights.sum() / 2
    median = 0
    below = weights[0]
    while below < half:
        median += 1
        below += weights[median]
    sums = np.zeros((len(points) + 1, 3))
    for point in range(median, len(points)):
        x = points[point] - points[median]
        sums[point + 1, 0] = sums[point, 0] + weights[point]
        sums[point + 1, 1] = sums[point, 1] + weights[point] * x
        sums[point + 1, 2] = sums[point, 2] + weights[point] * x * x
    for point in range(median - 1, -1, -1):
        x = points[point] - points[median]
        sums[point, 0] = sums[point + 1, 0] - weights[point]
        sums[point, 1] = sums[point + 1, 1] - weights[point] * x
        sums[point, 2] = sums[point + 1, 2] - weights[point] * x * x
    return points[median], sums


@compiled
def _boundaries(
    points: NDArray[np.float64], shares: NDArray[np.float64], median: float, sums: NDArray[np.float64], count: int
) -> NDArray[np.int64]:
    """Return the point at which each cluster begins, and the end of the last. int64, shape (clusters + 1,)."""
    if len(points) <= count:
        return np.arange(len(points) + 1)
    half = max(_MIN_HALF_BAND, _DP_WIDTH // count)
    share = _even_share(shares, count)
    boundaries = np.empty(0, dtype=np.int64)
    for bins_each in (_COARSE_BINS_EACH, max(_MIN_BINS_EACH, _MIN_BINS // count)):
        edges, expected = _bins(shares, share, count, bins_each)
        if len(boundaries):
            expected = np.searchsorted(edges, boundaries)
        at_edges = sums[edges]
        for _ in range(_RECENTRINGS):
            found, at_rim = _best_in_band(at_edges, expected, half)
            settled = not at_rim or np.array_equal(found, expected)
            expected = found
            if settled:
                break
        boundaries = edges[expected]
    _lloyd(points, median, sums, boundaries)
    return boundaries


@compiled
def _even_share(shares: NDArray[np.float64], count: int) -> float:
    """Return the share of one of `count` centroids if no point can draw more than one."""
    share = shares.sum() / count
    while True:
        rest = 0.0
        whole = 0
        for each in shares:
            if each >= share:
                whole += 1
            else:
                rest += each
        if whole >= count or rest / (count - whole) >= share * (1 - 1e-9):
            return float(share)
        share = rest / (count - whole)


@compiled
def _bins(
    shares: NDArray[np.float64], share: float, count: int, bins_each: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the point at which each bin begins, ends included, and the bin at which each cluster is expected to."""
    every = len(shares) <= count * bins_each
    edges = np.zeros(len(shares) + 1, dtype=np.int64)
    expected = np.zeros(count + 1, dtype=np.int64)
    bins = 0
    begun = 1
    drawn = 0.0
    full = 0.0
    for point in range(len(shares)):
        drawn += min(shares[point], share)
        if every or drawn >= full or point == len(shares) - 1:
            bins += 1
            edges[bins] = point + 1
            full = (np.floor(drawn * bins_each / share) + 1) * share / bins_each
        while begun < count and drawn >= begun * share:
            expected[begun] = bins
            begun += 1
    expected[begun:] = bins
    return edges[: bins + 1], expected


@compiled
def _best_in_band(sums: NDArray[np.float64], expected: NDArray[np.int64], half: int) -> tuple[NDArray[np.int64], bool]:
    """Return the best boundaries within `half` bins of the expected ones, and whether one lies at the rim of its band.

    Row by row of the cost matrix, minima move one way only; so each is sought between those of its neighbours, first
    every 2^n-th row, then those between them.
    """
    bins = len(sums) - 1
    count = len(expected) - 1
    low = np.maximum(expected - half, 0)
    high = np.minimum(expected + half, bins)
    low[0] = high[0] = 0
    low[count] = high[count] = bins
    before = np.zeros((count + 1, 2 * half + 1), dtype=np.int64)
    costs = np.zeros(2 * half + 1)
    next_costs = np.empty(2 * half + 1)
    for cluster in range(1, count + 1):
        rows = high[cluster] - low[cluster] + 1
        stride = 1
        while stride < rows:
            stride *= 2
        while stride:
            for row in range(stride - 1, rows, 2 * stride):
                end = low[cluster] + row
                first = low[cluster - 1]
                last = min(high[cluster - 1], end)
                if row - stride >= 0:
                    first = before[cluster, row - stride]
                if row + stride < rows:
                    last = min(last, before[cluster, row + stride])
                best, best_start = _best_start(sums, costs, low[cluster - 1], first, last, end)
                next_costs[row] = best
                before[cluster, row] = best_start
            stride //= 2
        costs, next_costs = next_costs, costs
    found = np.zeros(count + 1, dtype=np.int64)
    found[count] = bins
    at_rim = False
    for cluster in range(count, 1, -1):
        start = before[cluster, found[cluster] - low[cluster]]
        found[cluster - 1] = start
        at_rim |= 0 < start == low[cluster - 1] or bins > start == high[cluster - 1]
    return found, at_rim


@compiled
def _best_start(
    sums: NDArray[np.float64], costs: NDArray[np.float64], low: int, first: int, last: int, end: int
) -> tuple[float, int]:
    """Return the least cost of a cluster up to a bin, and where from first to last it then starts."""
    best = np.inf
    best_start = first
    for start in range(first, last + 1):
        cost = costs[start - low]
        weight = sums[end, 0] - sums[start, 0]
        if weight > 0:
            x = sums[end, 1] - sums[start, 1]
            cost += sums[end, 2] - sums[start, 2] - x * x / weight
        if cost < best:
            best = cost
            best_start = start
    return best, best_start


@compiled
def _mean(points: NDArray[np.float64], median: float, sums: NDArray[np.float64], first: int, end: int) -> float:
    """Return the mean of the points from first to end."""
    mean = median + (sums[end, 1] - sums[first, 1]) / (sums[end, 0] - sums[first, 0])
    return float(min(max(mean, points[first]), points[end - 1]))


@compiled
def _lloyd(
    points: NDArray[np.float64], median: float, sums: NDArray[np.float64], boundaries: NDArray[np.int64]
) -> None:
    """Move boundaries halfway between the means beside them, until they stay."""
    count = len(boundaries) - 1
    means = np.empty(count)
    for _ in range(_LLOYD_ROUNDS):
        for cluster in range(count):
            if boundaries[cluster] < boundaries[cluster + 1]:
                means[cluster] = _mean(points, median, sums, boundaries[cluster], boundaries[cluster + 1])
            else:
                means[cluster] = np.nan
        moved = False
        for cluster in range(1, count):
            middle = (means[cluster - 1] + means[cluster]) / 2
            if np.isnan(middle):
                continue
            boundary = boundaries[cluster]
            while points[boundary] <= middle:
                boundary += 1
            while points[boundary - 1] > middle:
                boundary -= 1
            moved |= boundary != boundaries[cluster]
            boundaries[cluster] = boundary
        if not moved:
            break


@compiled
def _rounded_means(
    points: NDArray[np.float64],
    median: float,
    sums: NDArray[np.float64],
    boundaries: NDArray[np.int64],
    single: bool,  # noqa: FBT001 - compiled functions take no keywords
) -> NDArray[np.float64]:
    """Return the mean of each cluster that is not empty, rounded to float32 or to float16."""
    table = np.empty(len(boundaries) - 1)
    entries = 0
    for cluster in range(len(table)):
        first, end = boundaries[cluster], boundaries[cluster + 1]
        if first == end:
            continue
        mean = points[first] if end == first + 1 else _mean(points, median, sums, first, end)
        if single:
            table[entries] = np.float32(mean)
        else:
            _, exponent = math.frexp(mean)
            step = math.ldexp(1.0, max(exponent, -13) - 11)
            table[entries] = np.rint(mean / step) * step
        entries += 1
    return table[:entries]


@compiled
def _squared_error(points: NDArray[np.float64], weights: NDArray[np.float64], table: NDArray[np.float64]) -> float:
    """Sum the squared distances of points to the nearest entry of an ascending table."""
    error = 0.0
    entry = 0
    for point in range(len(points)):
        while entry + 1 < len(table) and points[point] > (table[entry] + table[entry + 1]) / 2:
            entry += 1
        error += weights[point] * (points[point] - table[entry]) ** 2
    return error
