"""What weights do to the outputs together, told from what each of them does alone.

Losses add up while they are small. Large ones do not: to outputs that are noise already, one weight more does little.
Changes of the outputs can be composed further. A weight that is compressed turns the outputs y into g·y + r: a gain g,
the regression of the changed outputs on y, and a residual r. What is executed later does that to whatever it gets, so
residuals of early weights pass the gains of later ones; the loss of a plan is the metric of what comes out at the end.

That is done for a sample of the outputs. What the sample says of a plan is corrected by how far off it is for the same
weights alone, whose losses were measured on all outputs (a ratio estimate, as of Cochran's Sampling Techniques).

Nothing in that is fitted to plans. README tells how it ranks random ones. Gains and residuals in the company of other
compressed weights, which were measured for comparison, came no closer.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, log, sqrt
from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.metrics import name_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from talaria_nb.samples import Sample
    from talaria_nb.trials import Bench, Outcome

_MOST = 2**15
"""Numbers of the outputs that are kept of a trial, about: with twice as many, plans of torchcrepe, MiniLM and
EfficientNet-Lite0 rank the same."""

_OF_ALL_TRIALS = 2**25
"""Numbers that are kept of all trials together, about: 64 MiB as float16."""


def numbers_kept(trials: int) -> int:
    """Tell how many numbers of the outputs to keep of each of so many trials."""
    return max(min(_MOST, _OF_ALL_TRIALS // max(trials, 1)), 1)


@dataclass(frozen=True, slots=True, eq=False)
class Effect:
    """What one weight does to the outputs under one scheme, alone.

    Attributes
    ----------
    change
        How far the sample moves, over `scale`. float16, shape (numbers,).
    scale
        The largest change.
    gain
        Per kind of vectors in the sample, the regression of their change on the original ones. float64, shape (kinds,).
    loss
        Of all outputs.
    sampled
        Of the sample.
    """

    change: NDArray[np.float16]
    scale: float
    gain: NDArray[np.float64]
    loss: float
    sampled: float

    def on(self, moved: NDArray[np.float64], sample: Sample, times: float) -> None:
        """Move outputs that have moved already, so far from where the original has them, by `times` this effect.

        In place; shape (numbers,).
        """
        moved *= 1 + times * (self.gain[0] if len(self.gain) == 1 else self.gain[sample.kind_of])
        change = self.change.astype(np.float64)
        change *= times * self.scale
        moved += change


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """What weights do to the outputs.

    Attributes
    ----------
    metric
        One of `metrics.METRICS` that has a gradient.
    sample
        What is kept of the outputs.
    reference
        That of the original. float64, shape (numbers,).
    alone
        Losses of every weight under every scheme with nothing else compressed; NaN where it is not known. float64,
        shape (weights, schemes).
    measured
        Per row of a weight, in the order of execution, the effects that are known.
    """

    metric: str
    sample: Sample
    reference: NDArray[np.float64]
    alone: NDArray[np.float64]
    measured: Mapping[int, Sequence[Effect]]

    def loss(self, columns: Sequence[int]) -> float:
        """Estimate the loss of a plan, given the column of the scheme of every weight.

        The effect of a scheme is taken to be like the measured one of the nearest loss, times the root of the losses'
        ratio: losses grow with the square of the change.
        """
        moved = np.zeros_like(self.reference)
        of_all = of_sample = 0.0
        for row, effects in self.measured.items():
            alone = float(self.alone[row, columns[row]])
            if alone > 0 and effects:
                like = min(effects, key=lambda effect: abs(log(alone / effect.loss)))
                times = alone / like.loss
                like.on(moved, self.sample, sqrt(times))
                of_all += alone
                of_sample += times * like.sampled
        if not of_sample:
            return of_all
        return self.sample.loss(self.metric, self.reference + moved, self.reference) * of_all / of_sample


def effects(prepared: Bench, alone: NDArray[np.float64], measured: Mapping[int, Sequence[Outcome]]) -> Effects:
    """Find the effects in what was measured.

    Parameters
    ----------
    prepared
        The bench that measured, which keeps outputs.
    alone
        As in `Effects`.
    measured
        Per row of a weight, in the order of execution, what was measured of it alone.
    """
    metric, sample, reference = name_of(prepared.metric), prepared.sample, prepared.sampled

    def effect(outcome: Outcome) -> Effect | None:
        if outcome.change is None or not outcome.loss > 0 or not isfinite(outcome.scale):
            return None
        change = outcome.scale * outcome.change.astype(np.float64)
        gain = np.array([_regression(change[at], reference[at]) for at in sample.kinds.values()])
        sampled = sample.loss(metric, reference + change, reference)
        return Effect(outcome.change, outcome.scale, gain, outcome.loss, sampled)

    found = {row: [each for each in map(effect, outcomes) if each is not None] for row, outcomes in measured.items()}
    return Effects(metric, sample, reference, alone, found)


def _regression(change: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Return how many times `reference`, of its own shape, `change` is nearest to."""
    power = float((reference**2).sum())
    return float((change * reference).sum()) / power if power else 0.0
