"""Permutations of more dimensions than Core ML's tensors have, as steps of as many as they have."""

from __future__ import annotations

import itertools
import math
import operator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_RANK = 5
"""Dimensions of the largest tensor that Core ML holds (checked by coremltools' `Program.validate`)."""


def permute_steps(shape: Sequence[int], order: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Split a permutation into steps of at most `MAX_RANK` dimensions.

    Parameters
    ----------
    shape
        Of the tensor that is permuted.
    order
        Dimension i of the result is dimension `order[i]` of the tensor.

    Returns
    -------
    list of (shape, order)
        Reshape to `shape`, then permute by `order`, one after the other; empty where the permutation moves nothing.
        The last result holds the permuted tensor's elements in row-major order.
    """
    left = _merged_order(shape, order)
    steps = []
    while len(left[0]) > MAX_RANK:
        rest = {step: _after(*left, step) for step in _block_moves(left[0])}
        step = min(rest, key=lambda step: len(rest[step][0]))
        steps.append(step)
        left = rest[step]
    if len(left[0]) > 1:
        steps.append(left)
    return steps


def _merged_order(shape: Sequence[int], order: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Leave out dimensions of size 1 and merge neighbours that stay neighbours."""
    runs: list[list[int]] = []
    kept = [axis for axis in range(len(shape)) if shape[axis] != 1]
    for axis in (kept.index(axis) for axis in order if shape[axis] != 1):
        if runs and axis == runs[-1][-1] + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    before = sorted(runs)
    return (
        tuple(math.prod(shape[kept[axis]] for axis in run) for run in before),
        tuple(before.index(run) for run in runs),
    )


def _block_moves(sizes: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """List the permutations of `MAX_RANK` blocks of neighbouring dimensions."""
    moves = []
    for cuts in itertools.combinations(range(1, len(sizes)), MAX_RANK - 1):
        blocks = tuple(math.prod(sizes[start:end]) for start, end in itertools.pairwise((0, *cuts, len(sizes))))
        moves += [(blocks, order) for order in itertools.permutations(range(MAX_RANK))]
    return moves


def _after(
    sizes: tuple[int, ...], order: tuple[int, ...], step: tuple[tuple[int, ...], tuple[int, ...]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what is left of a permutation after a step of it."""
    blocks, block_order = step
    ends = list(itertools.accumulate(blocks, operator.mul))
    members: list[list[int]] = [[] for _ in blocks]
    for axis, end in enumerate(itertools.accumulate(sizes, operator.mul)):
        members[next(i for i, block_end in enumerate(ends) if end <= block_end)].append(axis)
    moved = [axis for block in block_order for axis in members[block]]
    return _merged_order([sizes[axis] for axis in moved], [moved.index(axis) for axis in order])
