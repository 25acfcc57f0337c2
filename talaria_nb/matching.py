"""Which weights and ops a user means: names, globs over names and module paths, masks."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from talaria_nb.errors import PlanError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from talaria_nb.load import Model


def listed(where: object, chosen_by: str) -> list[Any]:
    """List what may be one text or several; else a PlanError says what is chosen by what instead."""
    if isinstance(where, str):
        return [where]
    if not isinstance(where, Iterable):
        message = f"{chosen_by}, not by {where!r:.80}."
        raise PlanError(message)
    return list(where)


def weight_rows(model: Model, where: str | Iterable[str] | Iterable[bool]) -> tuple[list[int], bool]:
    """Find the weights that are meant, and whether each of them was named outright.

    Parameters
    ----------
    model
        Where to look.
    where
        As in `Plan.set`.

    Returns
    -------
    rows
        Rows of `model.weights`, each once.
    outright
        True if there is no glob among `where`.

    Raises
    ------
    PlanError
        If a glob or a name matches no weight, or a mask has another length.
    """
    program = model.program
    chosen = listed(where, _BY)
    if chosen and all(isinstance(item, (bool, np.bool_)) for item in chosen):
        if len(chosen) != len(program.weights):
            message = f"The mask has {len(chosen)} entries; the model has {len(program.weights)} weights."
            raise PlanError(message)
        return [row for row, wanted in enumerate(chosen) if wanted], True
    rows: dict[int, None] = {}
    outright = True
    for pattern in chosen:
        if not isinstance(pattern, str):
            odd = next((item for item in chosen if not isinstance(item, (str, bool, np.bool_))), pattern)
            message = f"{_BY}, not by {odd!r:.80}."
            raise PlanError(message)
        matched = _matching_weights(model, pattern)
        if not matched:
            raise unknown_weight(model, pattern)
        outright = outright and pattern in program.weight_row
        rows.update(dict.fromkeys(matched))
    return list(rows), outright


_BY = "Weights are chosen by name, glob or mask"


def op_rows(model: Model, pattern: str) -> list[int]:
    """Find the ops that a name, or a glob over op names and module paths, means.

    Returns
    -------
    list of int
        Rows of `model.ops`.

    Raises
    ------
    PlanError
        If it matches no op.
    """
    program = model.program
    if not isinstance(pattern, str):
        message = f"Ops are chosen by name or glob, not by {pattern!r}."
        raise PlanError(message)
    paths = [program.modules.path[row] for row in program.ops.module]
    found = [
        op
        for op, (name, path) in enumerate(zip(program.ops.name, paths, strict=True))
        if _matches(pattern, (name, *_with_ancestors((path,))))
    ]
    if not found:
        hint = did_you_mean(pattern, [*program.ops.name, *dict.fromkeys(paths)]) or " model.ops lists them all."
        message = f"No op or module of {program.name} matches {pattern!r}.{hint}"
        raise PlanError(message)
    return found


def unknown_weight(model: Model, pattern: str) -> PlanError:
    """Return the error for a name or glob that matches no weight, with the nearest that would."""
    program = model.program
    paths = _with_ancestors(path for paths in program.weight_module_paths for path in paths)
    hint = did_you_mean(pattern, [*program.weights.name, *dict.fromkeys(paths)]) or " model.weights lists them all."
    return PlanError(f"No weight or module of {program.name} matches {pattern!r}.{hint}")


def _matching_weights(model: Model, pattern: str) -> list[int]:
    program = model.program
    exact = program.weight_row.get(pattern)
    if exact is not None:
        return [exact]
    parameters = model.source_map.parameters  # coremltools writes its const names in lower case
    return [
        row
        for row, (name, paths) in enumerate(zip(program.weights.name, program.weight_module_paths, strict=True))
        if _matches(pattern, (name, parameters.get(name, name), *_with_ancestors(paths)))
    ]


def _matches(pattern: str, candidates: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(candidate, pattern) for candidate in candidates)


def _with_ancestors(paths: Iterable[str]) -> Iterator[str]:
    """Yield module paths and the paths of all modules around them, but for the root."""
    for path in paths:
        parts = path.split(".")
        yield from (".".join(parts[:depth]) for depth in range(len(parts), 0, -1))
