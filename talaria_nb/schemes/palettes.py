"""Palettes: indices into look-up tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from talaria_nb.errors import SchemeError
from talaria_nb.schemes.base import Scheme, check_choice, check_positive, is_whole, take_plain

PaletteGranularity: TypeAlias = Literal["per_tensor", "per_grouped_channel"]
PaletteMode: TypeAlias = Literal["kmeans", "uniform", "unique"]
_PALETTE_NBITS = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True, slots=True)
class Palettize(Scheme):
    """Store a weight as `nbits`-bit indices into look-up tables of centroids.

    Parameters
    ----------
    nbits
        Index width, one of 1, 2, 3, 4, 6, 8 (coremltools 9 `OpPalettizerConfig.nbits`). 3 needs iOS18. Not with mode
        "unique", which takes as many as there are distinct values.
    granularity
        "per_tensor": one table; "per_grouped_channel": one table for every `group_size` channels (iOS18).
    group_size
        Channels that share a table; must divide their number. Only with "per_grouped_channel".
    channel_axis
        Axis that is divided into groups; None for the output channels. Only with "per_grouped_channel".
    cluster_dim
        Length of the centroids: more than 1 makes a table of vectors along the channel axis (iOS18).
    mode
        "kmeans", "uniform" (evenly spaced centroids) or "unique" (lossless: every distinct value is a centroid).

    Raises
    ------
    SchemeError
        For a width, grouping or mode that coremltools cannot store.
    """

    nbits: int | None = None
    granularity: PaletteGranularity = "per_tensor"
    group_size: int | None = None
    channel_axis: int | None = None
    cluster_dim: int = 1
    mode: PaletteMode = "kmeans"

    def __post_init__(self) -> None:
        take_plain(self)
        check_choice(self, "mode", ("kmeans", "uniform", "unique"))
        check_choice(self, "granularity", ("per_tensor", "per_grouped_channel"))
        self._check_nbits()
        self._check_groups()
        check_positive(self, "cluster_dim")
        if self.cluster_dim > 1 and self.mode == "uniform":
            message = 'Palettize has no vectors (cluster_dim > 1) with mode="uniform".'
            raise SchemeError(message)
        if self.group_size is not None and self.group_size % self.cluster_dim:
            message = f"Palettize cannot divide groups of {self.group_size} into vectors of {self.cluster_dim}."
            raise SchemeError(message)

    def _check_nbits(self) -> None:
        if self.mode == "unique":
            if self.nbits is not None:
                message = 'Palettize takes no nbits with mode="unique": it takes as many as there are distinct values.'
                raise SchemeError(message)
        elif not is_whole(self.nbits) or self.nbits not in _PALETTE_NBITS:
            allowed = ", ".join(map(str, _PALETTE_NBITS))
            message = f"Palettize cannot use {self.nbits!r} bits: coremltools stores {allowed}."
            raise SchemeError(message)

    def _check_groups(self) -> None:
        if self.granularity == "per_grouped_channel":
            if self.group_size is None:
                object.__setattr__(self, "group_size", 32)
            check_positive(self, "group_size")
            if self.channel_axis is not None and not (is_whole(self.channel_axis) and self.channel_axis >= 0):
                message = f"Palettize needs a channel_axis of 0 or more, not {self.channel_axis!r}."
                raise SchemeError(message)
        else:
            for name in ("group_size", "channel_axis"):
                if getattr(self, name) is not None:
                    message = f'Palettize takes a {name} only with granularity="per_grouped_channel".'
                    raise SchemeError(message)

    @property
    def bits(self) -> float:
        """Bits of one element; for "unique" the most that it may take."""
        return (self.nbits or 8) / self.cluster_dim

    @property
    def key(self) -> str:
        return self.family if self.nbits is None else f"{self.family}:{self.nbits}"

    @property
    def family(self) -> str:
        return self._described(":group{}", ":axis{}", ":vector{}", ":{}")

    @property
    def family_label(self) -> str:
        return self._described(", group {}", " of axis {}", ", vectors of {}", ", {}")

    def _described(self, group: str, axis: str, vector: str, mode: str) -> str:
        """Write down what is not the default, each in its form."""
        said = (
            (group, self.group_size, self.group_size is not None),
            (axis, self.channel_axis, self.channel_axis is not None),
            (vector, self.cluster_dim, self.cluster_dim > 1),
            (mode, self.mode, self.mode != "kmeans"),
        )
        return "palettize" + "".join(form.format(value) for form, value, is_said in said if is_said)

    @property
    def label(self) -> str:
        return self.family_label if self.nbits is None else f"{self.nbits}-bit {self.family_label}"
