"""Losses of every scheme from those of a few: what was measured of a weight at some widths, carried over to all others.

The loss that a unit of squared error makes depends on how large the error is: where it is small, losses grow with it in
proportion; a palette of one or two bits can be a hundred times worse than that. So it is measured at several widths and
interpolated between them. What pruning does is another kind of error, measured by itself; joints have both.

Errors of several weights add up in the outputs or cancel. To second order the loss of a plan is the sum of what each
weight does alone and of a term for each pair. Half of a weight's pair terms are its own share: then the shares of all
weights add up to the loss of the plan. With all weights at one width, a weight's share is the mean of the loss that it
makes alone and of that which it adds to all others, so that is measured too.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.schemes import LinearQuantize, Palettize, Prune, part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from talaria_nb.schemes import Scheme

WIDTHS = (1, 2, 3, 4, 6)
"""Of the palettes that are measured; wider ones are so good that losses grow in proportion to the error."""

COMPANY = WIDTHS[1:]
"""Of the palettes that are measured with all weights together too; with 1 bit everywhere nothing is left to measure."""


def anchors(schemes: Sequence[Scheme]) -> tuple[Scheme, ...]:
    """List what has to be measured to know about some schemes: palettes of several widths, and every pruning."""
    prunings = [pruning for scheme in schemes if (pruning := part(scheme, Prune)) is not None]
    palettes = {palette.nbits for scheme in schemes if (palette := part(scheme, Palettize)) is not None}
    integers = {integer.nbits for scheme in schemes if (integer := part(scheme, LinearQuantize)) is not None}
    least = min((nbits or max(WIDTHS) for nbits in palettes | integers), default=None)
    measured = [] if least is None else [nbits for nbits in WIDTHS if nbits >= min(least, max(WIDTHS))]
    return (*(Palettize(nbits) for nbits in measured), *dict.fromkeys(prunings))


def shares(
    alone: Mapping[Scheme, float], added: Mapping[Scheme, float], squared_error: Mapping[Scheme, float]
) -> dict[Scheme, float]:
    """Give a weight its share of what it does together with others.

    Parameters
    ----------
    alone
        Losses with the weight compressed alone.
    added
        For some of the palettes, the loss that it adds where all other weights have the same palette.
    squared_error
        Of the weight under each of them.

    Returns
    -------
    dict
        The mean of both. Where the second is not measured, pair terms are taken from the nearest width: at fewer bits
        they grow as this weight's error does, at more bits as those of both.
    """
    found = dict(alone)
    known = [scheme for scheme in added if isinstance(scheme, Palettize) and np.isfinite(alone.get(scheme, np.nan))]
    measured = {scheme.nbits or 0: scheme for scheme in known}
    for scheme in alone if measured else ():
        if not isinstance(scheme, Palettize) or not scheme.nbits:
            continue
        nearest = min(measured, key=partial(_distance, scheme.nbits))
        near = measured[nearest]
        if not squared_error[near] > 0:
            continue
        growth = squared_error[scheme] / squared_error[near]
        pairs = (max(added[near], 0.0) - alone[near]) / 2
        pairs *= np.sqrt(growth) if scheme.nbits < nearest else growth
        found[scheme] = max(alone[scheme] + float(pairs), alone[scheme] / 2)
    return found


def _distance(left: int, right: int) -> int:
    return abs(left - right)


def losses(
    schemes: Sequence[Scheme],
    squared_error: Mapping[Scheme, float],
    measured: Mapping[Scheme, float],
) -> NDArray[np.float64]:
    """Tell the losses of one weight under many schemes.

    Parameters
    ----------
    schemes
        What is asked for.
    squared_error
        Of the weight under each of them, under what was measured, and under the pruning in each joint; NaN where it is
        illegal.
    measured
        The losses that are known; NaN or infinite where the outputs were, and so is that of all that round more.

    Returns
    -------
    array
        float64, shape (schemes,); NaN where nothing is known.
    """
    known = [(squared_error[scheme], loss) for scheme, loss in measured.items() if isinstance(scheme, Palettize)]
    points = sorted((error, loss / error) for error, loss in known if error > 0 and np.isfinite(loss))
    broken = min((error for error, loss in known if not np.isfinite(loss)), default=np.inf)
    found = np.full(len(schemes), np.nan)
    for place, scheme in enumerate(schemes):
        pruning = part(scheme, Prune)
        before, rounding = 0.0, squared_error[scheme]
        if pruning is not None and pruning in measured:
            before, rounding = measured[pruning], rounding - squared_error[pruning]
        if scheme in measured:
            found[place] = measured[scheme]
        elif rounding <= 0:
            found[place] = before
        elif points and rounding < broken:
            sizes, rates = zip(*points, strict=True)
            found[place] = before + rounding * np.interp(np.log(rounding), np.log(sizes), rates)
    return found
