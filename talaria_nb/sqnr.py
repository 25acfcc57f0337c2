"""Signal to quantization noise of weights and of ops under a plan, in decibels. It grades weights, not outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from talaria_nb.distortion import signal, squared_errors
from talaria_nb.estimate import sum_by_op
from talaria_nb.subjects import starting_schemes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from talaria_nb.costs import CostTable
    from talaria_nb.plan import Plan


class Noise(NamedTuple):
    """Squared error and sum of squares of every weight under a plan, NaN where not known. float64, shape (weights,)."""

    squared_error: NDArray[np.float64]
    signal: NDArray[np.float64]


def weight_noise(plan: Plan) -> Noise:
    """Find what the plan does to the values of every weight; takes about as long as compressing them."""
    weights, start = plan.model.program.weights, starting_schemes(plan.model.program)
    squared_error = np.zeros(len(weights))
    signals = np.zeros(len(weights))
    for row, (name, scheme) in enumerate(plan.schemes.items()):
        values = plan.model.weight_value(name)
        signals[row] = signal(values)
        if scheme != start[row]:  # as loaded it is exact, however it is stored
            [squared_error[row]] = squared_errors(values, [scheme], channel_axes=weights.channel_axes[row])
    return Noise(squared_error, signals)


def known_noise(table: CostTable, columns: NDArray[np.integer]) -> Noise:
    """Look up what a cost table knows already; columns as in `estimate.price`."""
    return Noise(table.squared_error[np.arange(len(columns)), columns].astype(np.float64), table.signal)


def weight_sqnr_db(noise: Noise) -> NDArray[np.float64]:
    """Return the ratio of every weight: infinite where nothing changes, NaN where it is not known."""
    return _decibels(*noise)


def op_sqnr_db(table: CostTable, noise: Noise) -> NDArray[np.float64]:
    """Return the ratio of all weights that an op reads, taken together; NaN also for ops that read none."""
    read = table.op_weights
    found = _decibels(sum_by_op(table, noise.squared_error[read]), sum_by_op(table, noise.signal[read]))
    return np.where(np.diff(table.op_weights_start) > 0, found, np.nan)


def _decibels(squared_error: NDArray[np.float64], signal: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: NDArray[np.float64] = 10 * np.log10(signal / squared_error)
    return np.where((squared_error == 0) & ~np.isnan(signal), np.inf, ratio)
