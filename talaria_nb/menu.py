"""Menu: the schemes that are offered for every weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from talaria_nb.errors import SchemeError
from talaria_nb.legality import refused
from talaria_nb.schemes import AsStored, Float16, LinearQuantize, Palettize, Prune, Scheme
from talaria_nb.subjects import subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from talaria_nb.load import Model

_NBITS = (8, 6, 4, 3, 2, 1)
_INT8_TABLES = LinearQuantize("int8", "per_tensor")


@dataclass(frozen=True)
class Menu:
    """The schemes that a session offers; immutable: `add` and `remove` return another menu.

    Parameters
    ----------
    schemes
        In the order in which they are shown; `Float16()` is put first whether it is among them or not.

    Raises
    ------
    SchemeError
        If something is no scheme, or one that only loaded weights can have.
    """

    schemes: tuple[Scheme, ...]

    def __post_init__(self) -> None:
        for scheme in self.schemes:
            if not isinstance(scheme, Scheme) or isinstance(scheme, AsStored):
                message = f"A menu holds schemes such as tnb.Palettize(4), not {scheme!r}."
                raise SchemeError(message)
        object.__setattr__(self, "schemes", tuple(dict.fromkeys((Float16(), *self.schemes))))

    @classmethod
    def default(cls) -> Menu:
        """Return the menu that a session starts with: the schemes that are worth trying on most models."""
        return cls(DEFAULT_MENU)

    def add(self, *schemes: Scheme) -> Menu:
        """Return a menu that offers some schemes more: `session.menu = session.menu.add(tnb.Prune(0.9))`."""
        return Menu((*self.schemes, *schemes))

    def remove(self, *schemes: Scheme) -> Menu:
        """Return a menu without some schemes; `Float16()` always stays."""
        return Menu(tuple(scheme for scheme in self.schemes if scheme not in schemes))

    def for_weight(self, model: Model, weight: str) -> tuple[Scheme, ...]:
        """Return the schemes of the menu that are legal for one weight.

        Parameters
        ----------
        model
            What `tnb.load` returns.
        weight
            Its name in `model.weights`.

        Raises
        ------
        SchemeError
            If the model has no such weight.
        """
        row = model.program.weight_row.get(weight)
        if row is None:
            message = f"{model.program.name} has no weight {weight!r}. model.weights lists them all."
            raise SchemeError(message)
        found = subject(model.program, row)
        return tuple(scheme for scheme in self.schemes if refused(scheme, found) is None)

    def __iter__(self) -> Iterator[Scheme]:
        return iter(self.schemes)

    def __len__(self) -> int:
        return len(self.schemes)


DEFAULT_MENU: tuple[Scheme, ...] = (
    Float16(),
    *(Palettize(nbits) for nbits in _NBITS),
    *(Palettize(nbits, "per_grouped_channel", 16) for nbits in _NBITS),
    LinearQuantize("int8", "per_channel"),
    LinearQuantize("int4", "per_channel"),
    LinearQuantize("int8", "per_tensor"),
    LinearQuantize("int4", "per_tensor"),
    LinearQuantize("int8", "per_block", 32),
    LinearQuantize("int4", "per_block", 32),
    *(Palettize(nbits, "per_grouped_channel", 16) + _INT8_TABLES for nbits in (8, 6, 4)),
    *(Prune(sparsity) for sparsity in (0.5, 0.75, 0.9)),
    *(Prune(0.5) + Palettize(nbits) for nbits in (8, 6, 4)),
    *(Prune(0.75) + Palettize(nbits) for nbits in (4, 3)),
)
"""The schemes that a session offers for every weight to begin with; `Float16()` is first."""
