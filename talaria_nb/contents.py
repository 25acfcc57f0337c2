"""What of a weight's storage depends on its values: how many are zero, how many are distinct, whether any is infinite.

Values are read only when asked for, and every answer is kept. Where coremltools decides, its own code is asked, so that
ties and rounding (its percentiles are taken in the weight's own float type) come out the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from coremltools.optimize.coreml._quantization_passes import prune_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from talaria_nb.schemes import Prune


@dataclass(frozen=True, slots=True)
class Pruned:
    """What is left of a pruned weight.

    Attributes
    ----------
    nonzeros
        Elements that are not zero.
    mask
        Digest of where they are.
    """

    nonzeros: int
    mask: str


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
    _distinct: dict[tuple[int, int, int, Prune | None], int] = field(default_factory=dict, repr=False)

    @cached_property
    def has_infinity(self) -> bool:
        """Whether any value is infinite, as in attention masks."""
        return bool(np.isinf(self.read()).any())

    @cached_property
    def extent(self) -> tuple[float, float]:
        """Smallest and largest value."""
        values = self.read()
        return float(values.min()), float(values.max())

    def pruned(self, scheme: Prune) -> Pruned:
        """Count what is left under a pruning scheme."""
        if scheme not in self._pruned:
            values = prune(self.read(), scheme)
            mask = np.packbits(values != 0).tobytes()
            digest = hashlib.sha1(mask, usedforsecurity=False).hexdigest()
            self._pruned[scheme] = Pruned(int(np.count_nonzero(values)), digest)
        return self._pruned[scheme]

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


def prune(values: NDArray[np.floating], scheme: Prune) -> NDArray[np.floating]:
    """Set to zero what a pruning scheme does; the dtype and shape of `values`."""
    if scheme.threshold is not None:
        return np.where(np.abs(values) <= scheme.threshold, 0, values)
    if scheme.n_m_ratio is not None:
        found = prune_weights.compress_by_nm_sparsity(values, scheme.n_m_ratio, scheme.dim)
    else:
        found = prune_weights.compress_by_magnitude(values, scheme.target_sparsity, scheme.block_size, scheme.dim)
    return np.asarray(prune_weights.decompress(found))
