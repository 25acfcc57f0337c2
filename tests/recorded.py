"""Which trials a call runs, for tests of what is kept between calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from talaria_nb.trials import Bench, Outcome, Trial

if TYPE_CHECKING:
    import pytest

_measure = Bench.measure


def trials_that_run(monkeypatch: pytest.MonkeyPatch, most: int | None = None) -> list[Trial]:
    """Return a list that every trial from now on is added to; after so many, the next one is interrupted."""
    done: list[Trial] = []

    def measure(bench: Bench, trial: Trial) -> Outcome:
        if len(done) == most:
            raise KeyboardInterrupt
        done.append(trial)
        return _measure(bench, trial)

    monkeypatch.setattr(Bench, "measure", measure)
    return done
