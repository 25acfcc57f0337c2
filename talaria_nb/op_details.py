"""What the Details panel shows of an op beyond what the browser has: its code, its tensors, its weights' values.

Weights themselves never leave Python: what crosses is a histogram, and the values of a palette or a grid.
"""

from __future__ import annotations

import linecache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talaria_nb.activation_legality import activation_refusals
from talaria_nb.errors import PlanError
from talaria_nb.frames import parent_modules, shape_text
from talaria_nb.histograms import histogram
from talaria_nb.legality import refused
from talaria_nb.levels import levels
from talaria_nb.schemes import Float16, Palettize, part
from talaria_nb.source import cell_name
from talaria_nb.storage import stored
from talaria_nb.stored_tensors import Stored
from talaria_nb.subjects import subject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from talaria_nb.levels import Levels
    from talaria_nb.load import Model
    from talaria_nb.schemes import Scheme
    from talaria_nb.source import Frame

Answer = dict[str, Any]

MOST_BINS = 128
CONTEXT_LINES = 2
"""Lines of code shown before and after the one that made an op."""

_MOST_FRAMES = 12
_MAX_SOURCE_BYTES = 1 << 22


def answer(model: Model, schemes: Sequence[Scheme], request: Mapping[str, Any]) -> Answer:
    """Answer what the panel asks for.

    Parameters
    ----------
    model
        The model.
    schemes
        The columns of the session's cost table.
    request
        what: "op" with op, a row of `Program.ops`; "weight" with weight, a row of `Program.weights`; or "levels" with
        weight and scheme, a column.

    Returns
    -------
    dict
        ok, and what `_op`, `_weight` or `_levels` says.

    Raises
    ------
    TalariaError
        If there is no such row or column, the scheme is not legal there, or values cannot be read.
    """
    return {"ok": True} | _ANSWERS[request["what"]](model, schemes, request)


def _row(request: Mapping[str, Any], what: str, count: int) -> int:
    row = int(request[what])
    if not 0 <= row < count:
        raise PlanError(f"There is no {what} number {row}: this session has {count}. Reload the page.")
    return row


def _op(model: Model, _schemes: Sequence[Scheme], request: Mapping[str, Any]) -> Answer:
    """Return the tensors that an op reads and writes, what was fused into it, and its code, innermost frame first."""
    program = model.program
    op = _row(request, "op", len(program.ops))
    name = program.ops.name[op]
    return {
        "inputs": [_tensor(model, value, parameter) for parameter, value in program.ops.inputs[op]],
        "outputs": [_tensor(model, value, "") for value in program.ops.outputs[op]],
        "fused": list(parent_modules(model.source_map, name)[1:]),
        "int8": activation_refusals(program, [op])[op] or "",
        "frames": _frames(model, name),
    }


def _tensor(model: Model, value: int, parameter: str) -> Answer:
    values = model.program.values
    weight, producer = int(values.weight[value]), int(values.producer[value])
    return {
        "parameter": parameter,
        "name": values.name[value],
        "shape": shape_text(values.shape[value]),
        "dtype": values.dtype[value],
        "bytes": values.bytes_of(value),
        # An op's row, or -1 for what no op makes.
        "producer": producer,
        "weight": weight,
    }


def _frames(model: Model, name: str) -> list[Answer]:
    """Return the frame that the op is shown at and those around it, or all of them where none is the user's."""
    shown = model.source_map.user_frame(name)
    frames = model.source_map.frames(name)
    if shown is None:
        return []
    around = frames[: len(frames) - frames[::-1].index(shown)]
    outward = [frame for frame in reversed(around) if frame.is_user or frame is shown]
    return [_frame(frame) for frame in outward[:_MOST_FRAMES]]


def _frame(frame: Frame) -> Answer:
    lines, at = _lines(frame.file), frame.line - 1
    # A file that has changed since says something else there.
    if not (0 <= at < len(lines) and lines[at].strip() == frame.code.strip()):
        context, first = [frame.code], frame.line
    else:
        start = max(0, at - CONTEXT_LINES)
        context, first = [line.rstrip("\n") for line in lines[start : at + CONTEXT_LINES + 1]], start + 1
    file = cell_name(frame.file) or frame.file
    return {"file": file, "line": frame.line, "function": frame.function, "lines": context, "first": first}


def _lines(file: str) -> list[str]:
    """Read a source file, or a notebook's cell; nothing where there is none."""
    if file not in linecache.cache:
        path = Path(file)
        if path.suffix != ".py" or not path.is_file() or path.stat().st_size > _MAX_SOURCE_BYTES:
            return []
    return linecache.getlines(file)


def _weight(model: Model, schemes: Sequence[Scheme], request: Mapping[str, Any]) -> Answer:
    """Return how the values of a weight are distributed, and what its tables and scales take under every scheme."""
    weights = model.program.weights
    row = _row(request, "weight", len(weights))
    name = weights.name[row]
    kept = [_stored(model, row, scheme) for scheme in schemes]
    return {
        "dtype": weights.dtype[row],
        "parameter": model.source_map.parameters.get(name, ""),
        "folded_from": model.source_map.folded.get(name, ""),
        "overhead_bytes": [0 if each is None else each.overhead_bytes for each in kept],
        "tables": [0 if each is None else each.tables for each in kept],
        **_distribution(model, name),
    }


def _stored(model: Model, row: int, scheme: Scheme) -> Stored | None:
    """Count the bytes of a weight under a scheme; None where that is illegal."""
    weights, weight = model.program.weights, subject(model.program, row)
    if refused(scheme, weight) is not None:
        return None
    packed = weights.packed.get(row)
    if packed is not None:
        return Stored((), packed.data_bytes, packed.overhead_bytes, 0, packed.tables, packed.file_bytes)
    return stored(scheme, weight, weights.dtype[row])


def _distribution(model: Model, name: str) -> Answer:
    """Return counts in equal bins from the least to the largest finite value, and moments."""
    values = model.weight_value(name)
    finite = values[np.isfinite(values)]
    counted = histogram(finite)
    points, weights = counted.points, counted.weights
    total = max(1.0, float(weights.sum()))
    least, most = (float(points[0]), float(points[-1])) if len(points) else (0.0, 0.0)
    mean = float(weights @ points) / total
    # Rice's rule, 2·∛n: as many as the number of values can fill.
    bins = min(MOST_BINS, max(1, round(2 * np.cbrt(total)))) if most > least else 1
    counts, _ = np.histogram(points, bins, (least, most if most > least else least + 1), weights=weights)
    return {
        "counts": counts.tolist(),
        "min": least,
        "max": most,
        "mean": mean,
        "std": float(np.sqrt(weights @ (points - mean) ** 2 / total)),
        "zeros": float(weights[points == 0].sum()) / total,
        "not_finite": values.size - finite.size,
    }


def _levels(model: Model, schemes: Sequence[Scheme], request: Mapping[str, Any]) -> Answer:
    """Return the values that a weight may take under a scheme, and which group of it they are of."""
    weights = model.program.weights
    row = _row(request, "weight", len(weights))
    scheme, weight = schemes[_row(request, "scheme", len(schemes))], subject(model.program, row)
    reason = refused(scheme, weight)
    if reason is not None:
        raise PlanError(reason)
    # As loaded it is exact, however it is stored.
    found = levels(model.weight_value(weights.name[row]), Float16() if scheme == weight.start else scheme, weight)
    return {
        "values": found.values.tolist(),
        "kind": "palette" if part(scheme, Palettize) else "grid",
        "group": found.group,
        "groups": found.groups,
        "place": _place_text(found, weights.shape[row], weight.channel_axes),
        "zeros": None if np.isnan(found.zeros) else found.zeros,
    }


def _place_text(found: Levels, shape: Sequence[int], channel_axes: tuple[int, int] | None) -> str:
    """Say which part of a weight a group is: "output channels 48–63", "" for all of it."""
    names = {axis: f"axis {axis}" for axis in range(len(shape))}
    if channel_axes is not None:
        names |= {channel_axes[0]: "input channel", channel_axes[1]: "output channel"}
    said = []
    for axis, (part_of, extent) in enumerate(zip(found.place, shape, strict=True)):
        if part_of.stop - part_of.start == 1 < extent:
            said.append(f"{names[axis]} {part_of.start}")
        elif part_of.stop - part_of.start < extent:
            several = f"{names[axis]}s" if "channel" in names[axis] else f"{names[axis]},"
            said.append(f"{several} {part_of.start}–{part_of.stop - 1}")
    return ", ".join(said)


_ANSWERS: Mapping[str, Callable[[Model, Sequence[Scheme], Mapping[str, Any]], Answer]] = {
    "op": _op,
    "weight": _weight,
    "levels": _levels,
}
