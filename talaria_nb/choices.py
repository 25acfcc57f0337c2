"""Choices: the schemes that each weight may have, once everything that is wanted of a plan is said.

What is offered, what is legal, what is pinned, and which weights are alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from talaria_nb.budgets import amount
from talaria_nb.errors import PlanError, SchemeError
from talaria_nb.legality import CAN_BE_COMPRESSED, refused
from talaria_nb.matching import weight_rows
from talaria_nb.schemes import Scheme
from talaria_nb.subjects import subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from talaria_nb.costs import CostTable
    from talaria_nb.load import Model

Where: TypeAlias = "str | tuple[str, ...]"
"""A glob over module paths, weight names and torch parameters, or several, as in `Plan.set`."""

Pin: TypeAlias = "Scheme | float | Iterable[Scheme]"
"""What some weights must be: one scheme, any offered scheme of so many bits, or one of several schemes."""


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """What may be chosen.

    Attributes
    ----------
    allowed
        The schemes that each weight may have, one at least. bool, shape (weights, schemes).
    group
        Weights of the same number have the same scheme; the numbers are 0, 1, … int64, shape (weights,).
    """

    allowed: NDArray[np.bool_]
    group: NDArray[np.int64]


def named(where: str | Sequence[str]) -> str:
    """Write where a pin holds, in short."""
    given = [where] if isinstance(where, str) else list(where)
    more = f" and {len(given) - _SHOWN} more" if len(given) > _SHOWN else ""
    return ", ".join(map(repr, given[:_SHOWN])) + more


_SHOWN = 3


def pinned_schemes(pins: Mapping[Where, Pin]) -> list[Scheme]:
    """Return the schemes that pins name, which may be more than are offered.

    Raises
    ------
    PlanError
        If the pins are no mapping, or a pin names something that is no scheme.
    """
    if not isinstance(pins, Mapping):
        raise PlanError(f"pins maps globs to schemes, such as {{'head': tnb.Palettize(8)}}; it is not {pins!r}.")
    found: list[Scheme] = []
    for pin in pins.values():
        if isinstance(pin, Scheme):
            found.append(pin)
        elif isinstance(pin, Iterable) and not isinstance(pin, str):
            found += list(pin)
        elif isinstance(pin, (str, bool)) or not isinstance(pin, (int, float)):
            raise PlanError(f"A pin is a scheme, several schemes or a number of bits, not {pin!r}.")
    for scheme in found:
        if not isinstance(scheme, Scheme):
            raise PlanError(f"A pin is a scheme, several schemes or a number of bits, not {scheme!r}.")
    return found


def choices(
    model: Model,
    table: CostTable,
    error: NDArray[np.float64],
    offered: Sequence[Scheme],
    pins: Mapping[Where, Pin] | None = None,
    alike: Iterable[str | Sequence[str]] = (),
) -> Choices:
    """Say what each weight may be.

    Parameters
    ----------
    model
        What `tnb.load` returns.
    table
        Prices; its columns are all schemes that are offered or pinned, and those that weights were loaded with.
    error
        Of every weight under every column, NaN where not known. float64, shape (weights, schemes).
    offered
        Schemes for the weights that are not pinned. A weight that can have none of them stays as it was loaded; a
        scheme whose error is not known of a weight is not offered for it.
    pins
        Where → what; of several that match a weight the last holds. Weights that coremltools cannot compress at all are
        passed over.
    alike
        Each entry is a glob, or several: all weights that it matches get the same scheme.

    Raises
    ------
    PlanError
        If a glob matches nothing, weights that are alike have no scheme in common, or the error of what a weight is
        pinned to is not known.
    SchemeError
        If a weight can have none of the schemes that it is pinned to.
    """
    legal = table.reason < 0
    rows = np.arange(len(legal))
    known = ~np.isnan(error)
    column_of = {scheme: column for column, scheme in enumerate(table.schemes)}
    wanted = np.zeros(len(table.schemes), dtype=np.bool_)
    wanted[[column_of[scheme] for scheme in offered]] = True
    as_loaded = np.arange(len(table.schemes)) == table.start[:, None]
    allowed = legal & wanted & known & (known & legal & ~as_loaded).any(axis=1, keepdims=True)
    for where, pin in (pins or {}).items():
        found, outright = weight_rows(model, where)
        columns = _columns(pin, column_of, offered, where)
        for row in found:
            possible = [column for column in columns if legal[row, column]]
            if possible:
                allowed[row] = False
                allowed[row, possible] = True
            elif outright or refused(CAN_BE_COMPRESSED, subject(model.program, row)) is None:
                scheme = table.schemes[columns[0]]
                reason = refused(scheme, subject(model.program, row))
                raise SchemeError(
                    f"{model.program.weights.name[row]} is pinned to {scheme.label} by {named(where)}, which it cannot "
                    f"be. {reason}"
                )
    none = ~allowed.any(axis=1)
    allowed[rows[none], table.start[none]] = True
    group = _alike(model, table, allowed, alike)
    _check_known(model, table, allowed, known)
    return Choices(allowed, group)


def _columns(pin: Pin, column_of: Mapping[Scheme, int], offered: Sequence[Scheme], where: Where) -> list[int]:
    if isinstance(pin, Scheme):
        return [column_of[pin]]
    if isinstance(pin, (int, float)):
        columns = [column_of[scheme] for scheme in offered if scheme.bits == pin]
        if not columns:
            widths = ", ".join(f"{bits:g}" for bits in sorted({scheme.bits for scheme in offered}))
            raise PlanError(
                f"{named(where)} is pinned to {amount('bits', pin)}, but the schemes that are offered have {widths}."
            )
        return columns
    columns = [column_of[scheme] for scheme in pin]
    if not columns:
        raise PlanError(f"{named(where)} is pinned to no scheme at all.")
    return columns


def _alike(
    model: Model, table: CostTable, allowed: NDArray[np.bool_], alike: Iterable[str | Sequence[str]]
) -> NDArray[np.int64]:
    """Return the number of each weight's group, and leave each group only what all of its weights may be."""
    root = np.arange(len(allowed))
    for where in [alike] if isinstance(alike, str) else alike:
        found = [row for row in weight_rows(model, where)[0] if (table.reason[row] < 0).sum() > 1]
        if found:
            joined = np.isin(root, root[found])
            root[joined] = root[found].min()
            allowed[joined] = allowed[joined].all(axis=0)
            if not allowed[found[0]].any():
                raise PlanError(
                    f"The weights of {named(where)} are to be alike, but no scheme is allowed for all of them."
                )
    return np.unique(root, return_inverse=True)[1]


def _check_known(model: Model, table: CostTable, allowed: NDArray[np.bool_], known: NDArray[np.bool_]) -> None:
    wrong = np.argwhere(allowed & ~known)
    if wrong.size:
        row, column = wrong[0]
        more = f", nor are {len(wrong) - 1} others" if len(wrong) > 1 else ""
        raise PlanError(
            f"The error of {model.program.weights.name[row]} as {table.schemes[column].label} is not known{more}. "
            "Leave the scheme out (schemes=…), or find the errors again."
        )
