"""Joint schemes: several, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from talaria_nb.errors import SchemeError
from talaria_nb.schemes.base import DENSE_BITS, Scheme
from talaria_nb.schemes.linear import LinearQuantize
from talaria_nb.schemes.palettes import Palettize
from talaria_nb.schemes.pruning import Prune

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Joint(Scheme):
    """Several schemes applied one after the other (iOS18); made with `+`.

    Parameters
    ----------
    parts
        Prune and then palettize or quantize what is left; palettize and then quantize the tables (8 bits, per tensor);
        prune, palettize and quantize the tables; or quantize to 8 bits and then palettize the integers.

    Raises
    ------
    SchemeError
        For any other sequence.
    """

    parts: tuple[Scheme, ...]

    def __post_init__(self) -> None:
        reason = _unjoinable(self.parts)
        if reason is not None:
            raise SchemeError(reason)

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))

    @property
    def prune(self) -> Prune | None:
        """The pruning among the parts."""
        return part(self, Prune)

    @property
    def tables_quantized(self) -> bool:
        """Whether the look-up tables are integers, rather than the data."""
        return isinstance(self.parts[-1], LinearQuantize) and part(self, Palettize) is not None

    @property
    def bits(self) -> float:
        palette, linear = part(self, Palettize), part(self, LinearQuantize)
        data = palette if palette is not None else linear
        kept = 1.0 if self.prune is None else self.prune.kept
        return round(kept * data.bits, 2) if data is not None else DENSE_BITS

    @property
    def key(self) -> str:
        return "+".join(scheme.key for scheme in self.parts)

    @property
    def family(self) -> str:
        """Everything but the width of the data, so that the stops of its slider differ in that alone."""
        return "+".join(scheme.family if scheme is self._data else scheme.key for scheme in self.parts)

    @property
    def family_label(self) -> str:
        return " + ".join(self._labels(with_width=False))

    @property
    def label(self) -> str:
        return " + ".join(self._labels(with_width=True))

    @property
    def _data(self) -> Scheme:
        palette = part(self, Palettize)
        return self.parts[-1] if palette is None else palette

    def _labels(self, *, with_width: bool) -> Iterable[str]:
        for scheme in self.parts:
            if scheme is self._data and not with_width:
                yield scheme.family_label
            elif self.tables_quantized and isinstance(scheme, LinearQuantize):
                yield f"{scheme.dtype} tables{'' if scheme.mode == 'linear_symmetric' else ', asymmetric'}"
            else:
                yield scheme.label


AnyScheme = TypeVar("AnyScheme", bound=Scheme)


def part(scheme: Scheme, kind: type[AnyScheme]) -> AnyScheme | None:
    """Return the part of a scheme that is of one kind, or None."""
    return next((found for found in scheme.parts if isinstance(found, kind)), None)


_SEQUENCES = (
    (Prune, Palettize),
    (Prune, LinearQuantize),
    (Palettize, LinearQuantize),
    (Prune, Palettize, LinearQuantize),
    (LinearQuantize, Palettize),
)


def _unjoinable(parts: tuple[Scheme, ...]) -> str | None:
    """Say why schemes cannot follow each other, or None; all of it is what coremltools 9 does when tried."""
    if tuple(type(scheme) for scheme in parts) not in _SEQUENCES:
        return (
            f"{' + '.join(type(scheme).__name__ for scheme in parts)} cannot be joined. coremltools joins Prune + "
            "Palettize, Prune + LinearQuantize, Palettize + LinearQuantize (the tables), Prune + Palettize + "
            "LinearQuantize (the tables) and LinearQuantize + Palettize."
        )
    first, last = parts[0], parts[-1]
    palette = next((scheme for scheme in parts if isinstance(scheme, Palettize)), None)
    if palette is not None and palette.cluster_dim > 1 and palette is not first:
        return "Vector palettes (cluster_dim > 1) join only with tables of integers, as Palettize + LinearQuantize."
    if isinstance(last, LinearQuantize) and palette is not None:
        if last.granularity != "per_tensor" or last.nbits != 8:
            return 'Tables are quantized to 8 bits per tensor: add LinearQuantize("int8", "per_tensor").'
    elif isinstance(first, LinearQuantize) and first.nbits != 8:
        return "Only 8-bit integers can be palettized: Core ML has no tables of 4-bit integers."
    return None


def is_determined(scheme: Scheme) -> bool:
    """Whether the values that a weight gets are known beforehand to the last bit: nothing is clustered."""
    if isinstance(scheme, Joint):
        return all(isinstance(simple, (Prune, LinearQuantize)) for simple in scheme.parts)
    return not isinstance(scheme, Palettize) or scheme.mode in ("uniform", "unique")
