"""What all schemes have in common, and the two that change nothing: dense, and as a package holds it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from functools import total_ordering
from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.errors import SchemeError

if TYPE_CHECKING:
    from typing import Self

    from talaria_nb.schemes.joint import Joint

DENSE_BITS = 16
"""Of an element that is not compressed."""
_REFUSED_KEYWORDS = {
    "enable_per_channel_scale": (
        "enable_per_channel_scale corrupts weights in coremltools 9 (reported in its pull request 2777): where the op "
        "is skipped later, the weight stays divided by its scales. Use a smaller group_size instead."
    )
}


@total_ordering
class Scheme(ABC):
    """How one weight is stored. The concrete schemes are frozen dataclasses."""

    __slots__ = ()

    def __new__(cls, *_args: object, **keywords: object) -> Self:
        """Refuse unknown keywords, which coremltools would ignore in a config, with the known ones."""
        known = list(getattr(cls, "__dataclass_fields__", ()))
        for keyword in keywords:
            if keyword in _REFUSED_KEYWORDS:
                raise SchemeError(_REFUSED_KEYWORDS[keyword])
            if keyword not in known:
                takes = f"It takes {', '.join(known)}." if known else "It takes none."
                message = f"{cls.__name__} does not know the keyword {keyword!r}. {takes}"
                raise SchemeError(message)
        return object.__new__(cls)

    @property
    @abstractmethod
    def bits(self) -> float:
        """Bits stored for one element on average, without masks, tables and scales; zeros of a pruned weight count."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Canonical short text, unique to the scheme: "palettize:group16:4"."""

    @property
    @abstractmethod
    def family(self) -> str:
        """Key without the width: schemes of one family are the stops of one slider."""

    @property
    @abstractmethod
    def family_label(self) -> str:
        """What to call the family on screen."""

    @property
    def label(self) -> str:
        """What to call the scheme on screen."""
        return f"{self.bits:g}-bit {self.family_label}"

    @property
    def parts(self) -> tuple[Scheme, ...]:
        """The simple schemes that it is made of, in the order in which they are applied."""
        return (self,)

    def __add__(self, other: Scheme) -> Joint:
        if not isinstance(other, Scheme):
            return NotImplemented
        from talaria_nb.schemes.joint import Joint  # noqa: PLC0415 - which is a scheme itself

        return Joint((*self.parts, *other.parts))

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Scheme):
            return NotImplemented
        return self.key < other.key


@dataclass(frozen=True, slots=True, repr=True)
class Float16(Scheme):
    """Keep a weight as converted: dense, in the model's own float type (float16 unless the package holds float32)."""

    @property
    def bits(self) -> float:
        return DENSE_BITS

    @property
    def family(self) -> str:
        return "float16"

    @property
    def family_label(self) -> str:
        return "float16"

    @property
    def key(self) -> str:
        return "float16"

    @property
    def label(self) -> str:
        return "float16"


@dataclass(frozen=True, slots=True)
class AsStored(Scheme):
    """Keep a weight as the loaded package holds it, compressed in a way that no other scheme here says.

    Parameters
    ----------
    how
        The steps of its decompression in words: "palette + sparse".
    nbits
        Width of one stored element.
    """

    how: str
    nbits: int

    @property
    def bits(self) -> float:
        return self.nbits

    @property
    def key(self) -> str:
        return f"{self.family}:{self.nbits}"

    @property
    def family(self) -> str:
        return f"stored:{self.how.replace(' ', '')}"

    @property
    def family_label(self) -> str:
        return f"{self.how}, as stored"


def take_plain(scheme: Scheme) -> None:
    """Make Python's own of numbers and texts of numpy's, which neither YAML nor coremltools' configs can hold."""
    for field in fields(scheme):  # type: ignore[arg-type] # a dataclass
        value = getattr(scheme, field.name)
        if isinstance(value, np.generic):
            object.__setattr__(scheme, field.name, value.item())


def check_choice(scheme: Scheme, name: str, allowed: tuple[str, ...]) -> None:
    """Refuse what an attribute may not be."""
    value = getattr(scheme, name)
    if value not in allowed:
        message = f"{type(scheme).__name__} does not know {name} {value!r}: use one of {', '.join(allowed)}."
        raise SchemeError(message)


def check_positive(scheme: Scheme, name: str) -> None:
    """Refuse all but whole numbers from 1."""
    value = getattr(scheme, name)
    if not is_whole(value) or value < 1:
        message = f"{type(scheme).__name__} needs a positive whole {name}, not {value!r}."
        raise SchemeError(message)


def check_range(scheme: Scheme, name: str, most: float) -> None:
    """Refuse all but numbers from 0 to `most`; what is left becomes a float."""
    value = getattr(scheme, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        limits = "0 or more" if most > 1 else "0 to 1"
        message = f"{type(scheme).__name__} needs a {name} of {limits}, not {value!r}."
        raise SchemeError(message)
    object.__setattr__(scheme, name, float(value))


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, and not True or False."""
    return isinstance(value, int) and not isinstance(value, bool)
