"""Weight errors, found in the background while a person explores."""

from __future__ import annotations

import atexit
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.error_table import weight_errors
from talaria_nb.errors import TalariaError
from talaria_nb.package import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from talaria_nb.load import Model
    from talaria_nb.schemes import Scheme


_PATIENCE_S = 5
"""How long the end of the interpreter waits at most; groups take milliseconds, whole tensors well below a second."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a sweep knows by now.

    Attributes
    ----------
    signal
        Sum of squared values of each weight, NaN until the first schemes are known. float64, shape (weights,).
    squared_error
        Of each weight under a scheme, as `distortion.Distortions` has it; a key for every scheme that is known.
    """

    signal: NDArray[np.float64]
    squared_error: Mapping[Scheme, NDArray[np.float64]] = field(default_factory=dict)


class Sweep:
    """Finds the errors of one model's weights in one thread of its own, and leaves the other cores alone.

    That thread touches neither widgets nor coremltools' builders: what it finds is published as one new `found`, for
    others to show on a thread of theirs. It ends at the next group of a weight once the sweep is stopped, which the end
    of the interpreter does too.

    Parameters
    ----------
    model
        Whose weights.
    on_news
        Called on the sweep's thread whenever `found` is a new one, and when the work has ended. It must not raise, and
        return soon.

    Attributes
    ----------
    found
        What is known by now; replaced as a whole.
    refusal
        Why the last errors that were asked for cannot be found, or "".
    """

    def __init__(self, model: Model, on_news: Callable[[], None]) -> None:
        self.found = Found(np.full(len(model.program.weights), np.nan))
        self._model = model
        self.refusal = ""
        self._on_news = on_news
        self._asked: list[Scheme] = []
        self._changed = Condition()
        self._thread: Thread | None = None
        self._stopped = False
        self._failure: Exception | None = None
        atexit.register(self._end)

    @property
    def is_asked(self) -> bool:
        """Whether any errors were ever asked for."""
        return bool(self._asked)

    @property
    def is_running(self) -> bool:
        """Whether errors are being found now."""
        return self._thread is not None

    def ask(self, schemes: Iterable[Scheme]) -> None:
        """Have the errors found of the schemes that were not asked for before; returns at once."""
        for name in self._model.program.weights.name[:1]:
            try:
                self._model.weight_value(name)  # opens on the caller's thread what the sweep's then only reads
            except TalariaError as error:
                self.refusal = first_line(error)
                raise
        with self._changed:
            self._asked += [scheme for scheme in dict.fromkeys(schemes) if scheme not in self._asked]
            if self._thread is None and not self._stopped:
                self.refusal = ""
                self._thread = Thread(target=self._run, name="weight errors", daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Return once all that was asked for is known, or raise what keeps it from being found."""
        with self._changed:
            self._changed.wait_for(lambda: self._thread is None)
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def stop(self) -> None:
        """Have the work end, for good; returns at once."""
        self._stopped = True
        atexit.unregister(self._end)

    def _end(self) -> None:
        """Keep the thread from running into an interpreter that is being taken down."""
        self._stopped = True
        with self._changed:
            self._changed.wait_for(lambda: self._thread is None, timeout=_PATIENCE_S)

    def _run(self) -> None:
        while schemes := self._next():
            try:
                weights = weight_errors(self._model, schemes, threads=1, checkpoint=self._checkpoint)
            except CancelledError:
                continue
            except Exception as error:  # noqa: BLE001 - wait() raises it where it is seen
                self._failure = error
                self.refusal = first_line(error)
                self._asked = list(self.found.squared_error)
                continue
            known = {**self.found.squared_error, **dict(zip(schemes, weights.squared_error.T, strict=True))}
            self.found = Found(weights.signal, known)
            self._on_news()
        if not self._stopped:
            self._on_news()

    def _next(self) -> list[Scheme]:
        """Return the schemes that are not known yet; if there are none, the thread is over."""
        with self._changed:
            known = self.found.squared_error
            schemes = [] if self._stopped else [scheme for scheme in self._asked if scheme not in known]
            if not schemes:
                self._thread = None
                self._changed.notify_all()
            return schemes

    def _checkpoint(self) -> None:
        if self._stopped:
            raise CancelledError
