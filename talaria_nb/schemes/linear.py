"""Linear quantization: integers with scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from talaria_nb.errors import SchemeError
from talaria_nb.schemes.base import Scheme, check_choice, check_positive, is_whole, take_plain

LinearGranularity: TypeAlias = Literal["per_tensor", "per_channel", "per_block"]
LinearDtype: TypeAlias = Literal["int8", "uint8", "int4", "uint4"]
LinearMode: TypeAlias = Literal["linear_symmetric", "linear"]


@dataclass(frozen=True, slots=True)
class LinearQuantize(Scheme):
    """Store a weight as integers with a scale, and where needed a zero point, per tensor, channel or block.

    Parameters
    ----------
    dtype
        "int8" or "uint8", or with iOS18 "int4" or "uint4" (coremltools 9 `OpLinearQuantizerConfig.dtype`).
    granularity
        "per_channel" (of the output axis, the default), "per_tensor", or "per_block" (iOS18).
    block_size
        Only with "per_block". A number: input channels that share a scale, each output channel by itself. A tuple: the
        block's extent on every axis of the weight, 0 for the whole axis. Must divide the channels.
    mode
        "linear_symmetric" (zero is in the middle of the range) or "linear" (a zero point is stored).

    Raises
    ------
    SchemeError
        For a dtype, granularity or mode that coremltools cannot store.
    """

    dtype: LinearDtype = "int8"
    granularity: LinearGranularity = "per_channel"
    block_size: int | tuple[int, ...] | None = None
    mode: LinearMode = "linear_symmetric"

    def __post_init__(self) -> None:
        take_plain(self)
        check_choice(self, "dtype", ("int8", "uint8", "int4", "uint4"))
        check_choice(self, "granularity", ("per_tensor", "per_channel", "per_block"))
        check_choice(self, "mode", ("linear_symmetric", "linear"))
        if self.granularity == "per_block":
            if self.block_size is None:
                object.__setattr__(self, "block_size", 32)
            if isinstance(self.block_size, list):
                object.__setattr__(self, "block_size", tuple(self.block_size))
            if isinstance(self.block_size, tuple):
                if not self.block_size or not all(is_whole(size) and size >= 0 for size in self.block_size):
                    message = f"LinearQuantize needs a whole block_size for every axis, not {self.block_size!r}."
                    raise SchemeError(message)
            else:
                check_positive(self, "block_size")
        elif self.block_size is not None:
            message = 'LinearQuantize takes a block_size only with granularity="per_block".'
            raise SchemeError(message)

    @property
    def bits(self) -> float:
        return self.nbits

    @property
    def nbits(self) -> int:
        """Width of one integer."""
        return 4 if self.dtype.endswith("4") else 8

    @property
    def signed(self) -> bool:
        """Whether the integers have a sign."""
        return not self.dtype.startswith("u")

    @property
    def has_zero_point(self) -> bool:
        """Whether zero points are needed; iOS16 and iOS17 store them all the same."""
        return self.mode == "linear" or not self.signed

    @property
    def key(self) -> str:
        return f"{self.family}:{self.dtype}"

    @property
    def family(self) -> str:
        grain = self.granularity.removeprefix("per_") + self._block("x")
        mode = "" if self.mode == "linear_symmetric" else ":asymmetric"
        return f"linear:{grain}{mode}{'' if self.signed else ':unsigned'}"

    @property
    def family_label(self) -> str:
        grain = self.granularity.replace("_", "-") + (f" {self._block('×')}" if self.block_size else "")
        mode = "" if self.mode == "linear_symmetric" else ", asymmetric"
        return f"linear, {grain}{mode}{'' if self.signed else ', unsigned'}"

    def _block(self, between: str) -> str:
        if isinstance(self.block_size, tuple):
            return between.join(map(str, self.block_size))
        return str(self.block_size or "")
