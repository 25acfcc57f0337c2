"""ErrorTable: what every scheme does to every weight, as one number that adds over weights, with its grade.

Everything that finds a plan reads errors from here, however they were found: "weight" grades look at the weights alone,
"estimated" ones weigh them by a sensitivity, "measured" ones ran the model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from talaria_nb.errors import PlanError
from talaria_nb.package import first_line
from talaria_nb.schemes import Float16, Scheme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from talaria_nb.distortion import Distortions
    from talaria_nb.load import Model
    from talaria_nb.plan import Plan

Grade: TypeAlias = Literal["weight", "estimated", "measured"]
WeightError: TypeAlias = Literal["noise_to_signal", "squared_error"]

_WEIGHT_ERRORS: tuple[WeightError, ...] = ("noise_to_signal", "squared_error")


@dataclass(frozen=True, slots=True, eq=False)
class ErrorTable:
    """Errors of every weight under some schemes; `allocate` minimises their sum.

    Attributes
    ----------
    schemes
        The columns.
    error
        0 or more, in any unit that adds; NaN where a scheme is illegal or its error not known. float64, shape (weights,
        schemes), weights in file order.
    grade
        "weight": of the weights alone. "estimated": weighted by a sensitivity. "measured": of the model's output.
    what
        What the number is, in words.
    """

    schemes: tuple[Scheme, ...]
    error: NDArray[np.float64]
    grade: Grade
    what: str

    @property
    def composes(self) -> bool:
        """Whether `of_plan` is closer than the sum of the errors: what is known of weights together is used."""
        return False

    @property
    def what_of_plan(self) -> str:
        """What `of_plan` is, in words."""
        return self.what

    def of_plan(self, plan: Plan) -> float:
        """Return the error of a whole plan, the sum over its weights; NaN where one of them is not known."""
        return float(self.of_weights(plan).sum())

    def of_weights(self, plan: Plan) -> NDArray[np.float64]:
        """Return the error of each weight as a plan has it, NaN where it is not known. float64, shape (weights,)."""
        column = {scheme: place for place, scheme in enumerate(dict.fromkeys(plan.scheme_of_weight))}
        chosen = [column[scheme] for scheme in plan.scheme_of_weight]
        return self.of(plan.model, tuple(column))[np.arange(len(chosen)), chosen]

    def of(self, model: Model, schemes: Sequence[Scheme]) -> NDArray[np.float64]:
        """Return the errors under other columns: float64, shape (weights, schemes), NaN where not known.

        A weight as it was loaded has no error, whatever the table says or does not say of it.

        Raises
        ------
        PlanError
            If the table is not for this model, or holds errors that are infinite or below zero.
        """
        weights = model.program.weights
        if self.error.shape != (len(weights), len(self.schemes)):
            raise PlanError(
                f"The errors have the shape {self.error.shape}, but {model.program.name} has {len(weights)} weights "
                f"and the table {len(self.schemes)} schemes. Errors are found anew for every model."
            )
        finite = np.abs(self.error[np.isfinite(self.error)])
        wrong = np.argwhere(np.isinf(self.error) | (self.error < -_ROUNDING * finite.max(initial=0)))
        if wrong.size:
            row, column = wrong[0]
            raise PlanError(
                f"The error of {weights.name[row]} as {self.schemes[column].label} is {self.error[row, column]:g}: "
                "errors are finite and not below zero."
            )
        column_of = {scheme: column for column, scheme in enumerate(self.schemes)}
        unknown = np.full(len(weights), np.nan)
        found = [self.error[:, column_of[scheme]] if scheme in column_of else unknown for scheme in schemes]
        table = np.maximum(np.stack(found, axis=1), 0.0) if found else np.zeros((len(weights), 0))
        packed = weights.packed
        for column, scheme in enumerate(schemes):
            if isinstance(scheme, Float16):
                dense = [row not in packed for row in range(len(weights))]
                table[dense, column] = 0.0
            for row, each in packed.items():
                if each.scheme == scheme:
                    table[row, column] = 0.0
        return table


_ROUNDING = 1e-9
"""Measured differences of nothing may be below zero by so much of the largest."""


def error_table(
    model: Model,
    schemes: Sequence[Scheme],
    error: str | ErrorTable | pd.DataFrame | pd.Series | NDArray[np.floating] | None = None,
    *,
    progress: bool = True,
) -> ErrorTable:
    """Bring what is known about errors into one table.

    Parameters
    ----------
    model
        What `tnb.load` returns.
    schemes
        The columns wanted where they are not given.
    error
        None or "noise_to_signal": of each weight, the squared error over the sum of its squares. "squared_error": the
        squared error. A series by weight name, or an array of shape (weights,): a sensitivity, which multiplies the
        squared errors and makes them "estimated". A DataFrame, weights by name × schemes, or an `ErrorTable`: taken as
        it is; `attrs["grade"]` of a DataFrame says its grade, "measured" if it does not.
    progress
        Show a bar while weights are looked at.

    Returns
    -------
    ErrorTable

    Raises
    ------
    PlanError
        If it is nothing of the kind, or for another model.
    """
    if isinstance(error, ErrorTable):
        return error
    if isinstance(error, pd.DataFrame):
        return _from_frame(model, error)
    if isinstance(error, (pd.Series, np.ndarray)):
        found = weight_errors(model, schemes, progress=progress)
        sensitivity = _by_weight(model, error)
        return ErrorTable(
            tuple(schemes), found.squared_error * sensitivity[:, None], "estimated", "sensitivity × squared error"
        )
    if error is None or error in _WEIGHT_ERRORS:
        found = weight_errors(model, schemes, progress=progress)
        if error == "squared_error":
            return ErrorTable(tuple(schemes), found.squared_error, "weight", "squared error of the weights")
        signal = np.where(found.signal > 0, found.signal, 1.0)[:, None]
        return ErrorTable(
            tuple(schemes), found.squared_error / signal, "weight", "noise to signal of each weight, added up"
        )
    raise PlanError(
        f"error={error!r} says nothing about errors: use one of {', '.join(_WEIGHT_ERRORS)}, a sensitivity for each "
        "weight, or a table of weights × schemes."
    )


def _by_weight(model: Model, sensitivity: pd.Series | NDArray[np.floating]) -> NDArray[np.float64]:
    weights = model.program.weights
    if isinstance(sensitivity, pd.Series):
        _check_names(model, sensitivity.index)
        sensitivity = sensitivity.reindex(list(weights.name))
    values = _numbers(sensitivity)
    if values.shape != (len(weights),):
        raise PlanError(
            f"The sensitivities have the shape {values.shape}, but {model.program.name} has {len(weights)} weights."
        )
    return values


def _from_frame(model: Model, frame: pd.DataFrame) -> ErrorTable:
    _check_names(model, frame.index)
    columns: list[Any] = list(frame.columns)
    odd = [column for column in columns if not isinstance(column, Scheme)]
    if odd or not columns:
        found = repr(odd[0]) if odd else "nothing"
        raise PlanError(f"The columns of an error table are schemes such as tnb.Palettize(4), not {found}.")
    grade = frame.attrs.get("grade", "measured")
    if grade not in get_args(Grade):
        raise PlanError(f'attrs["grade"] of an error table is one of {", ".join(get_args(Grade))}, not {grade!r}.')
    values = _numbers(frame.reindex(list(model.program.weights.name)))
    return ErrorTable(tuple(columns), values, grade, str(frame.attrs.get("what", f"{grade} error")))


def _check_names(model: Model, names: pd.Index) -> None:
    """Refuse names of weights that the model does not have, and names that stand twice."""
    unknown = [name for name in names if name not in model.program.weight_row]
    if unknown:
        raise PlanError(
            f"The errors are of {unknown[0]!r}, but {model.program.name} has no weight of that name. model.weights "
            "lists them all."
        )
    if not names.is_unique:
        raise PlanError(f"The errors of {names[names.duplicated()][0]!r} are given twice.")


def _numbers(given: pd.DataFrame | pd.Series | NDArray[Any]) -> NDArray[np.float64]:
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PlanError(f"Errors are numbers: {first_line(error)}.") from None


_known: WeakKeyDictionary[Model, tuple[tuple[Scheme, ...], Distortions]] = WeakKeyDictionary()


def weight_errors(
    model: Model,
    schemes: Iterable[Scheme],
    *,
    progress: bool = False,
    threads: int | None = None,
    checkpoint: Callable[[], None] = lambda: None,
) -> Distortions:
    """Return `distortion.distortions` of a model; each scheme is looked at once for each model and kept.

    Parameters
    ----------
    model
        What `tnb.load` returns.
    schemes
        The columns.
    progress
        Show a bar while weights are looked at.
    threads, checkpoint
        As in `distortion.distortions`.
    """
    from talaria_nb.distortion import Distortions, distortions  # noqa: PLC0415 - imports numba, which takes a second

    wanted = tuple(dict.fromkeys(schemes))
    columns, found = _known.get(model, ((), None))
    missing = tuple(scheme for scheme in wanted if scheme not in columns)
    if missing or found is None:
        weights = model.program.weights
        with tqdm(total=len(weights), desc="Weight errors", leave=False, disable=not progress) as bar:
            seen: set[str] = set()

            def value(name: str) -> NDArray[np.floating]:
                if name not in seen:
                    seen.add(name)
                    bar.update()
                return model.weight_value(name)

            fresh = distortions(model.program, value, missing, threads=threads, checkpoint=checkpoint)
        if found is not None:
            fresh = replace(fresh, squared_error=np.hstack([found.squared_error, fresh.squared_error]))
        columns, found = _known[model] = (*columns, *missing), fresh
    at = [columns.index(scheme) for scheme in wanted]
    return Distortions(found.squared_error[:, at], found.signal)
