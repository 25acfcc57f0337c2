"""Pruning: zeros that are not stored."""

from __future__ import annotations

from dataclasses import dataclass

from talaria_nb.errors import SchemeError
from talaria_nb.schemes.base import DENSE_BITS, Scheme, check_range, is_whole, take_plain


@dataclass(frozen=True, slots=True)
class Prune(Scheme):
    """Store a weight without its zeros, after setting its smallest elements to zero.

    Parameters
    ----------
    target_sparsity
        Part of the elements to set to zero, 0 to 1.
    n_m_ratio
        (n, m): of every m elements along `dim`, the n smallest. Only for weights of conv and linear.
    threshold
        Everything of this magnitude or less.
    block_size
        With `target_sparsity`: prune this many neighbours along `dim` together. Only for weights of conv and linear.
    dim
        0 (output channels, the default of `block_size`) or 1 (input channels, the default of `n_m_ratio`).

    Raises
    ------
    SchemeError
        Unless exactly one of `target_sparsity`, `n_m_ratio` and `threshold` is given, in its range.
    """

    target_sparsity: float | None = None
    n_m_ratio: tuple[int, int] | None = None
    threshold: float | None = None
    block_size: int | None = None
    dim: int | None = None

    def __post_init__(self) -> None:
        take_plain(self)
        given = [name for name in ("target_sparsity", "n_m_ratio", "threshold") if getattr(self, name) is not None]
        if len(given) != 1:
            message = "Prune needs exactly one of target_sparsity, n_m_ratio and threshold."
            raise SchemeError(message)
        if self.n_m_ratio is not None:
            _check_ratio(self)
        else:
            check_range(self, given[0], 1.0 if given[0] == "target_sparsity" else float("inf"))
        if self.block_size is not None:
            if self.target_sparsity is None:
                message = "Prune takes a block_size only with target_sparsity."
                raise SchemeError(message)
            if not is_whole(self.block_size) or self.block_size < 2:
                message = f"Prune needs a whole block_size of 2 or more, not {self.block_size!r}."
                raise SchemeError(message)
        if self.is_structured and self.dim is None:
            object.__setattr__(self, "dim", 0 if self.n_m_ratio is None else 1)
        if self.dim is not None and not (self.is_structured and is_whole(self.dim) and self.dim in (0, 1)):
            message = f"Prune takes dim 0 or 1, and only with n_m_ratio or block_size, not {self.dim!r}."
            raise SchemeError(message)

    @property
    def is_structured(self) -> bool:
        """Whether neighbours are pruned together."""
        return self.n_m_ratio is not None or self.block_size is not None

    @property
    def kept(self) -> float:
        """Part of the elements that stay, before any zeros that the weight has by itself; 1 for a threshold."""
        if self.n_m_ratio is not None:
            return 1 - self.n_m_ratio[0] / self.n_m_ratio[1]
        return 1.0 if self.target_sparsity is None else 1 - self.target_sparsity

    @property
    def bits(self) -> float:
        return round(DENSE_BITS * self.kept, 2)

    @property
    def key(self) -> str:
        if self.n_m_ratio is not None:
            return f"{self.family}:{self.n_m_ratio[0]}:{self.n_m_ratio[1]}"
        return f"{self.family}:{self.target_sparsity if self.threshold is None else self.threshold!r}"

    @property
    def family(self) -> str:
        if self.threshold is not None:
            return "prune:threshold"
        if self.n_m_ratio is not None:
            return f"prune:nm:dim{self.dim}"
        return "prune" if self.block_size is None else f"prune:block{self.block_size}:dim{self.dim}"

    @property
    def family_label(self) -> str:
        if self.threshold is not None:
            return "prune by threshold"
        if self.n_m_ratio is not None:
            return f"prune n:m, {_DIM_LABELS[self.dim or 0]}"
        return "prune" + self._blocks

    @property
    def label(self) -> str:
        if self.threshold is not None:
            return f"pruned to {self.threshold:g}"
        if self.n_m_ratio is not None:
            return f"{self.n_m_ratio[0]}:{self.n_m_ratio[1]} pruned, {_DIM_LABELS[self.dim or 0]}"
        return f"{100 * (self.target_sparsity or 0):g} % pruned{self._blocks}"

    @property
    def _blocks(self) -> str:
        return "" if self.block_size is None else f", blocks of {self.block_size} {_DIM_LABELS[self.dim or 0]}"


_DIM_LABELS = ("output channels", "input channels")


def _check_ratio(scheme: Prune) -> None:
    ratio = scheme.n_m_ratio
    whole = isinstance(ratio, (tuple, list)) and len(ratio) == 2 and all(is_whole(number) for number in ratio)
    if not whole or not 1 <= ratio[0] <= ratio[1]:  # type: ignore[index]
        message = f"Prune needs an n_m_ratio of two whole numbers with 1 ≤ n ≤ m, not {ratio!r}."
        raise SchemeError(message)
    object.__setattr__(scheme, "n_m_ratio", tuple(ratio))  # type: ignore[arg-type]
