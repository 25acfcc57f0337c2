"""Which outputs of a module are kept of every trial: some vectors, so that many trials fit into memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from talaria_nb.metrics import named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Kind: TypeAlias = "tuple[int, int]"
"""Vectors of one kind: the place of their tensor among a module's outputs, and their length."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Some vectors of the outputs, along the last axis, evenly spaced over all items.

    Attributes
    ----------
    rows
        Per item and tensor, which of its vectors are kept. int64.
    sizes
        Per item and tensor, the length of its vectors.
    """

    rows: tuple[tuple[NDArray[np.int64], ...], ...]
    sizes: tuple[tuple[int, ...], ...]

    def of(self, item: int, outputs: Sequence[torch.Tensor]) -> NDArray[np.float64]:
        """Return what is kept of the outputs of one item, the tensors that count. float64, shape (numbers,)."""
        pieces = [
            tensor.detach().cpu().reshape(-1, size)[torch.from_numpy(rows)].double().reshape(-1).numpy()
            for tensor, rows, size in zip(outputs, self.rows[item], self.sizes[item], strict=True)
        ]
        return np.concatenate(pieces)

    @cached_property
    def kinds(self) -> dict[Kind, NDArray[np.int64]]:
        """Where the numbers of each kind of vector are. int64, shape (vectors, length)."""
        found: dict[Kind, list[NDArray[np.int64]]] = {}
        begin = 0
        for of_item, sizes in zip(self.rows, self.sizes, strict=True):
            for place, (rows, size) in enumerate(zip(of_item, sizes, strict=True)):
                end = begin + len(rows) * size
                found.setdefault((place, size), []).append(np.arange(begin, end).reshape(-1, size))
                begin = end
        return {kind: np.concatenate(pieces) for kind, pieces in found.items()}

    @cached_property
    def kind_of(self) -> NDArray[np.int64]:
        """Of every number, the place of its kind among `kinds`. int64, shape (numbers,)."""
        places = np.zeros(sum(at.size for at in self.kinds.values()), dtype=np.int64)
        for place, at in enumerate(self.kinds.values()):
            places[at] = place
        return places

    def loss(self, metric: str, outputs: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
        """Compute a named metric of what is kept: the mean over the kinds of vectors. Shapes (numbers,)."""
        between = named(metric).between
        pairs = ((torch.from_numpy(outputs[at]), torch.from_numpy(reference[at])) for at in self.kinds.values())
        return float(np.mean([float(between(*pair)) for pair in pairs]))


def sample(references: Sequence[Sequence[torch.Tensor]], numbers: int) -> Sample:
    """Choose what to keep of the outputs.

    Parameters
    ----------
    references
        Of each item, the tensors of the original's outputs that count (`metrics.counted`).
    numbers
        How many numbers to keep, about; of every kind of vector one at least.
    """
    counts = [
        [((place, tensor.shape[-1]), tensor.numel() // tensor.shape[-1]) for place, tensor in enumerate(tensors)]
        for tensors in references
    ]
    totals: dict[Kind, int] = {}
    for kind, count in (pair for of_item in counts for pair in of_item):
        totals[kind] = totals.get(kind, 0) + count
    chosen = {kind: _evenly(total, numbers // (len(totals) * kind[1])) for kind, total in totals.items()}
    passed = dict.fromkeys(totals, 0)
    rows = []
    for of_item in counts:
        mine = []
        for kind, count in of_item:
            within = (chosen[kind] >= passed[kind]) & (chosen[kind] < passed[kind] + count)
            mine.append(chosen[kind][within] - passed[kind])
            passed[kind] += count
        rows.append(tuple(mine))
    return Sample(tuple(rows), tuple(tuple(kind[1] for kind, _ in of_item) for of_item in counts))


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return evenly spaced rows of so many, one at least."""
    return np.unique(np.linspace(0, count - 1, min(count, max(most, 1))).round().astype(np.int64))
