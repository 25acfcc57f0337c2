"""Optimal clustering on a line: the best table of a few values for many, as k-means that never gets stuck finds it.

What is clustered is a histogram. Clusters that each cost a penalty beside their squared error are a least-weight
subsequence, found in one pass over the points with a queue of where the last cluster may begin (Hirschberg and Larmore,
"The least weight subsequence problem", SIAM Journal on Computing 16/4, 1987). The squared error of the best n clusters
falls ever more slowly with n, so some penalty makes n of them best (Aggarwal, Schieber and Tokuyama, "Finding a
minimum-weight k-link path in graphs with the concave Monge property and applications", Discrete & Computational
Geometry 12, 1994; for clusters: Grønlund et al., "Fast exact k-means, k-medians and Bregman divergence clustering in
1D", arXiv 1701.07204). That is the optimum, up to the rounding of arithmetic.

Nothing here knows what a scheme is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.histograms import CODES, NEGATIVE_ZERO, Histogram, codes_of, histogram
from talaria_nb.loops import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PENALTIES = 100
"""How many penalties are tried at most, which is where float64 ends; two to four are usual."""

_NEGLIGIBLE = 1e-9
"""How much greater than the optimum a squared error may be, as a part of it."""


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
    boundaries = _boundaries(values.sums, values.spread, count)
    weights, pulls, _ = np.diff(values.sums[boundaries], axis=0).T
    means = np.clip(values.median + pulls / weights, values.points[boundaries[:-1]], values.points[boundaries[1:] - 1])
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
def _boundaries(sums: NDArray[np.float64], spread: float, count: int) -> NDArray[np.int64]:
    """Return the point at which each of the best clusters begins, and the end of the last. int64, (clusters + 1,)."""
    points = len(sums) - 1
    every = np.arange(points + 1)
    if points <= count:
        return every
    few, many = np.array([0, points]), every
    least, most = 0.0, np.inf
    penalty = 2 * spread / count**3
    bound = -np.inf
    best = _spliced(few, many, count)
    for _ in range(_PENALTIES):
        found = _penalised(sums, penalty)
        clusters = len(found) - 1
        if clusters == count:
            return found
        bound = max(bound, _squares(sums, found) + penalty * (clusters - count))
        if clusters < count:
            few, most = found, penalty
        else:
            many, least = found, penalty
        best = _spliced(few, many, count)
        if _squares(sums, best) - bound <= _NEGLIGIBLE * bound:
            break
        penalty *= (clusters / count) ** 3
        if not least < penalty < most:
            penalty = most / 8 if least == 0 else least * 8 if most == np.inf else np.sqrt(least * most)
    return best


@compiled
def _penalised(sums: NDArray[np.float64], penalty: float) -> NDArray[np.int64]:
    """Return the boundaries of the clusters whose squared error and penalties add up to the least.

    Where a cluster may begin is worth keeping for the ends that no earlier beginning is better for: of two, the later
    one is better from some end on.
    """
    points = len(sums) - 1
    total = np.zeros(points + 1)
    before = np.zeros(points + 1, dtype=np.int64)
    starts = np.zeros(points + 1, dtype=np.int64)
    since = np.zeros(points + 1, dtype=np.int64)
    first = last = 0
    for end in range(1, points + 1):
        if first < last and since[first + 1] == end:
            first += 1
        before[end] = starts[first]
        total[end] = total[before[end]] + _square(sums, before[end], end) + penalty
        better = points + 1
        while last > first and _is_better(sums, total, end, starts[last], since[last]):
            better = since[last]
            last -= 1
        worse = max(since[last], end)
        while better - worse > 1:
            middle = (worse + better) // 2
            if _is_better(sums, total, end, starts[last], middle):
                better = middle
            else:
                worse = middle
        if better <= points:
            last += 1
            starts[last] = end
            since[last] = better
    clusters = 0
    end = points
    while end > 0:
        end = before[end]
        clusters += 1
    found = np.empty(clusters + 1, dtype=np.int64)
    found[clusters] = points
    for cluster in range(clusters, 0, -1):
        found[cluster - 1] = before[found[cluster]]
    return found


@compiled
def _is_better(sums: NDArray[np.float64], total: NDArray[np.float64], later: int, earlier: int, end: int) -> bool:
    """Tell whether the cluster up to an end should rather begin at the later of two points."""
    return bool(total[later] + _square(sums, later, end) < total[earlier] + _square(sums, earlier, end))


@compiled
def _spliced(few: NDArray[np.int64], many: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Join the beginning of fewer clusters and the end of more, so that there are `count`.

    They are joined where a cluster of the few holds one of the many. Then the two that come of it together cost no more
    than those two did, so that what is best under one penalty for both few and many is spliced to what is best.
    """
    ahead = len(many) - 1 - count
    joint = 1
    while few[joint] < many[joint + ahead]:
        joint += 1
    return np.concatenate((few[:joint], many[joint + ahead :]))


@compiled
def _squares(sums: NDArray[np.float64], boundaries: NDArray[np.int64]) -> float:
    """Add up the squared errors of clusters about their means."""
    squares = 0.0
    for cluster in range(len(boundaries) - 1):
        squares += _square(sums, boundaries[cluster], boundaries[cluster + 1])
    return squares


@compiled
def _square(sums: NDArray[np.float64], start: int, end: int) -> float:
    """Return the squared error of the points from start to end about their mean."""
    x = sums[end, 1] - sums[start, 1]
    return float(sums[end, 2] - sums[start, 2] - x * x / (sums[end, 0] - sums[start, 0]))
