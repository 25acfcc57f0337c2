"""The errors users meet: each message says what happened, where, and what to do next."""

from __future__ import annotations


class TalariaError(Exception):
    """Base class of every error that talaria-nb raises on purpose."""


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


class ExportError(TalariaError):
    """coremltools did not do what the plan asked for."""
