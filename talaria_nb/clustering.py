"""Optimal clustering on a line: the best table of a few values for many, as k-means that never gets stuck finds it.

What is clustered is a histogram. The optimum on it is found by dynamic programming over bins of values (Wang and Song,
"Ckmeans.1d.dp", The R Journal 3/2, 2011), with the divide and conquer over monotone minima that cost matrices of this
kind allow. Bins hold even shares of Σ C^⅓·Δ^⅔ (C values in a gap of Δ), which is how the best centroids themselves are
spread when they are many (Panter and Dite, "Quantization distortion in pulse-count modulation with nonuniform spacing
of levels", Proc. IRE 39/1, 1951); that also says where a boundary is to be looked for. Lloyd's steps on the whole
histogram end it.

Nothing here knows what a scheme is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.histograms import CODES, NEGATIVE_ZERO, Histogram, codes_of, histogram
from talaria_nb.loops import compiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

_FEW, _MANY = 16, 64
_BINS = 256
_BINS_EACH = 8
_BINS_EACH_OF_MANY = 6
"""Bins over all and a cluster, and a cluster where there are more than `_MANY`. Above `_FEW` clusters a first
round is over pairs of bins. With these and the bands below the squared error was within 0.6 % of the optimum at 256
clusters and within 0.3 % below, heavy tails included: see `tests/test_distortion.py`."""

_DP_WIDTH = 1024
_HALF_BANDS = (24, 16)
_WIDEST_HALF_BAND = 256
"""A boundary is looked for this many bins either side of where it is expected, in the first and in the second round;
`_DP_WIDTH` over the number of clusters where there are few. Where any is found further than ¾ of that away, again
around what was found, in a band twice as wide."""

_RECENTRINGS = 40
_LLOYD_ROUNDS = 100


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
    found: Iterable[Histogram] = map(histogram, groups)
    return np.array([[squared_error(each, best_table(each, count)) for count in counts] for each in found])


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
    tables = np.zeros((len(groups), count))
    indices = np.empty(groups.shape, dtype=np.uint8)
    entry_of_code = np.zeros(CODES, dtype=np.uint8)
    for row, group in enumerate(groups):
        found = histogram(group)
        table = best_table(found, count)
        tables[row, : len(table)] = table
        entry_of_code[found.codes] = np.searchsorted((table[:-1] + table[1:]) / 2, found.points)
        entry_of_code[NEGATIVE_ZERO] = entry_of_code[0]
        indices[row] = entry_of_code[codes_of(group)]
    return tables.astype(groups.dtype), indices


def best_table(values: Histogram, count: int) -> NDArray[np.float64]:
    """Return the means of the best clusters, at most `count`, ascending, rounded to the values' dtype."""
    boundaries = _boundaries(values.points, values.shares, values.median, values.sums, count)
    means = _means(values.points, values.median, values.sums, boundaries)
    rounded: NDArray[np.float64] = means.astype(np.float32 if values.single else np.float16).astype(np.float64)
    return rounded


def squared_error(values: Histogram, table: NDArray[np.float64]) -> float:
    """Sum the squared distances of the values to the nearest entry of an ascending table, or to that of their code."""
    masses, pulls = np.zeros((2, len(table)))
    return values.within + float(residuals(values.points, values.weights, table, masses, pulls))


@compiled
def residuals(
    points: NDArray[np.float64],
    weights: NDArray[np.float64],
    table: NDArray[np.float64],
    masses: NDArray[np.float64],
    pulls: NDArray[np.float64],
) -> float:
    """Return Σ (x - t)² of points x, of which there are so many, about the nearest entry t of an ascending table.

    Adds to `masses` how many have each entry as the nearest, and to `pulls` their Σ (x - t). Where u is stored for t,
    the squared error is greater by Σ 2(t - u)·pull + (t - u)²·mass.
    """
    squares = 0.0
    entry = 0
    for point in range(len(points)):
        while entry + 1 < len(table) and points[point] > (table[entry] + table[entry + 1]) / 2:
            entry += 1
        off = points[point] - table[entry]
        masses[entry] += weights[point]
        pulls[entry] += weights[point] * off
        squares += weights[point] * off * off
    return squares


@compiled
def _means(
    points: NDArray[np.float64], median: float, sums: NDArray[np.float64], boundaries: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the means of the clusters that hold any points."""
    means = np.empty(len(boundaries) - 1)
    found = 0
    for cluster in range(len(means)):
        if boundaries[cluster] < boundaries[cluster + 1]:
            means[found] = _mean(points, median, sums, boundaries[cluster], boundaries[cluster + 1])
            found += 1
    return means[:found]


@compiled
def _boundaries(
    points: NDArray[np.float64], shares: NDArray[np.float64], median: float, sums: NDArray[np.float64], count: int
) -> NDArray[np.int64]:
    """Return the point at which each cluster begins, and the end of the last. int64, shape (clusters + 1,)."""
    if len(points) <= count:
        return np.arange(len(points) + 1)
    bins_each = _BINS_EACH_OF_MANY if count > _MANY else max(_BINS_EACH, _BINS // count)
    edges, boundaries = _bins(shares, _even_share(shares, count), count, bins_each)
    few = count <= _FEW
    step = 1 if few else 2
    while step:
        at = np.minimum(np.arange(0, len(edges) - 1 + step, step), len(edges) - 1)
        at_edges = np.empty((len(at), 3))
        for edge in range(len(at)):
            at_edges[edge] = sums[edges[at[edge]]]
        half = _DP_WIDTH // count if few else _HALF_BANDS[2 - step]
        boundaries = at[_best(at_edges, (boundaries + step // 2) // step, half)]
        step //= 2
    boundaries = edges[boundaries]
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
def _best(sums: NDArray[np.float64], expected: NDArray[np.int64], half: int) -> NDArray[np.int64]:
    """Return the best boundaries, sought around expected ones until they are no longer found far off."""
    count = len(expected) - 1
    bins = len(sums) - 1
    expected = np.minimum(expected, bins)
    for _ in range(_RECENTRINGS):
        low = np.maximum(expected - half, 0)
        high = np.minimum(expected + half, bins)
        low[0] = high[0] = 0
        low[count] = high[count] = bins
        found = _best_in_band(sums, low, high)
        far = False
        same = True
        for cluster in range(1, count):
            off = abs(found[cluster] - expected[cluster])
            far |= 4 * off > 3 * half and 0 < found[cluster] < bins
            same &= off == 0
        expected = found
        if same or not far:
            break
        half = min(2 * half, _WIDEST_HALF_BAND)
    return expected


@compiled
def _best_in_band(sums: NDArray[np.float64], low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the best boundaries, each between a lowest and a highest bin.

    Row by row of the cost matrix, minima move one way only; so each is sought between those of its neighbours, first
    every 2^n-th row, then those between them.
    """
    count = len(low) - 1
    width = 1
    for cluster in range(count + 1):
        width = max(width, high[cluster] - low[cluster] + 1)
    before = np.empty((count + 1, width), dtype=np.int64)
    costs = np.empty(width)
    next_costs = np.empty(width)
    costs[0] = 0.0
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
    found = np.empty(count + 1, dtype=np.int64)
    found[0] = 0
    found[count] = high[count]
    for cluster in range(count, 1, -1):
        found[cluster - 1] = before[cluster, found[cluster] - low[cluster]]
    return found


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
            while boundary < len(points) and points[boundary] <= middle:
                boundary += 1
            while boundary > 0 and points[boundary - 1] > middle:
                boundary -= 1
            moved |= boundary != boundaries[cluster]
            boundaries[cluster] = boundary
        if not moved:
            break
