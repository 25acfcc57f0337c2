"""The errors users meet: each message says what happened, where, and what to do next."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from talaria_nb.names import in_sentence

if TYPE_CHECKING:
    from collections.abc import Iterable


class TalariaError(Exception):
    """Base class of every error that talaria-nb raises on purpose.

    Parameters
    ----------
    message
        The sentence. Names in it that nobody would read to the end are cut in the middle.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(in_sentence(message))


class LoadError(TalariaError):
    """The source given to `load` is not a model that can be read, or its example inputs do not fit."""


class ConversionError(TalariaError):
    """The model is fine in PyTorch, but could not be converted to an MIL program."""


class SchemeError(TalariaError, ValueError):
    """A scheme that cannot exist, or that this weight or deployment target cannot store."""


class PlanError(TalariaError, ValueError):
    """A plan that does not fit: an unknown weight, or a plan made for another model."""


class DeviceError(TalariaError, ValueError):
    """An unknown device or compute unit, or a device file that does not say what it must."""


class BudgetError(TalariaError, ValueError):
    """A budget that is none, or that no plan which is allowed can keep."""


class SessionError(TalariaError, AttributeError):
    """Something is set that a session does not have."""


class ExportError(TalariaError):
    """coremltools did not do what the plan asked for."""


class EvaluationError(TalariaError):
    """A plan's accuracy cannot be measured: nothing to run, data that does not fit, outputs that say nothing."""


def nearest(name: object, names: Iterable[str]) -> str | None:
    """Return the name that a mistyped one is most like, or None if none is like it."""
    near = difflib.get_close_matches(str(name), list(names), n=1, cutoff=0.5)
    return near[0] if near else None


def did_you_mean(name: object, names: Iterable[str], *, prefix: str = "") -> str:
    """Write the end of a message about an unknown name: " Did you mean …?", or "" if no known one is like it."""
    near = nearest(name, names)
    return "" if near is None else f" Did you mean {prefix + near!r}?"
