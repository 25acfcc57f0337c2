"""Prove what compression made of a model: bytes and values, weight by weight, beside what was predicted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import coremltools as ct
import numpy as np
import pandas as pd
from sklearn.metrics import pairwise_distances_argmin_min

from talaria_nb.activations import reads_int8
from talaria_nb.compressed import dense_value, payload_bytes
from talaria_nb.contents import prune
from talaria_nb.coreml import walk
from talaria_nb.devices import devices
from talaria_nb.distortion import dequantized, squared_errors
from talaria_nb.errors import LoadError
from talaria_nb.export import compress, constexprs
from talaria_nb.package import check, open_package, parse
from talaria_nb.read import mil_function
from talaria_nb.schemes import Float16, Palettize, Prune, Scheme, is_determined, part
from talaria_nb.subjects import Subject, grouped_axis, table_counts
from talaria_nb.weight_bytes import stored_weight, weight_file_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from talaria_nb.plan import Plan

_ACTIVATIONS = "int8 activations"

_COLUMNS = ("scheme", "predicted_bytes", "actual_bytes", "sqnr_db", "expected_sqnr_db", "max_error", "finding")

_SQNR_TOLERANCE_DB = 1.0
"""How much worse than expected a palette may be: coremltools' own clustering is up to 7 % (0.3 dB) worse than ours."""

_SYMMETRIC_STEPS = 127
"""Steps from 0 to the largest entry in a table of 8-bit integers."""

_UNIFORM_SLACK = 2**-8
"""Three roundings of float16, of numbers up to the extent of a table, twice its largest entry, seen from both sides."""

_PACKAGE_TOLERANCE, _PACKAGE_TOLERANCE_BYTES = 1e-4, 5
"""How far the size of a package may be off, as a part of it, or for small ones in bytes; see `tests/test_sizes.py`."""

_EXACT_TOLERANCE = 1e-3
"""How far values that are known beforehand may be off, over the largest of them: one step of float16 arithmetic."""


def verify(
    plan: Plan, compressed: ct.models.MLModel | str | os.PathLike[str] | None = None, *, progress: bool = True
) -> pd.DataFrame:
    """Compare what was predicted with what coremltools wrote, sizes and values.

    Parameters
    ----------
    plan
        The plan that `compressed` was made from.
    compressed
        What `plan.compress()` returned, or what coremltools made of `plan.optimization_configs()`, or the path of an
        .mlpackage that it was saved in; None compresses now, which a plan with int8 activations needs samples for.
    progress
        Whether a progress bar shows while it compresses.

    Returns
    -------
    pandas.DataFrame
        Index: weight names, then the names of ops with int8 activations (which have no bytes here), then "weight.bin".
        Columns: scheme; predicted_bytes and actual_bytes (data, tables and
        scales of a weight; the whole file in the last row); match, whether they are equal; sqnr_db, the
        signal-to-quantization-noise ratio of the weight read back from the compressed model, in dB (inf for an
        unchanged weight, NaN in the last row), and expected_sqnr_db, what the scheme costs by itself (NaN where that
        is not known); max_error, the largest difference to the original; finding, in words what is wrong, or "".
        `frame.attrs["verdict"]` says in one line whether everything is as predicted; `package_bytes` and
        `predicted_package_bytes` beside it are of the whole package.

    Raises
    ------
    ExportError
        If compression fails.
    LoadError
        If the package is none, or damaged.
    """
    mlmodel = compress(plan, progress=progress) if compressed is None else _opened(compressed)
    found = constexprs(mlmodel, plan)
    dense = {op.name: op for op in walk(mil_function(mlmodel)) if op.op_type == "const"}
    program = plan.model.program
    rows: list[tuple[str, int, int, float, float, float, str]] = []
    for row, (weight, scheme) in enumerate(plan.schemes.items()):
        original = plan.model.weight_value(weight)
        predicted = stored_weight(program, scheme, row).payload_bytes
        op = found.get(weight)
        if op is None and weight not in dense:
            rows.append((scheme.label, predicted, 0, np.nan, np.nan, np.nan, "The compressed model does not have it."))
            continue
        stored = dense[weight].outputs[0].val if op is None else dense_value(op)
        actual = int(original.nbytes) if op is None else payload_bytes(op)
        wanted = Float16() if row in program.weights.packed else scheme
        expected, finding = _judged(original, stored, wanted, program.weights.channel_axes[row])
        if op is None and not isinstance(scheme, Float16):
            finding = "It was not compressed."
        elif not finding and actual != predicted:
            finding = f"It takes {actual:,} bytes where {predicted:,} were predicted."
        error = (
            np.abs(original.astype(np.float64) - stored).max(initial=0.0) if original.shape == stored.shape else np.nan
        )
        rows.append((scheme.label, predicted, actual, _sqnr_db(original, stored), expected, float(error), finding))
    rows += _activation_rows(plan, mlmodel)
    predicted_file, actual_file = weight_file_bytes(program, plan.scheme_of_weight), _actual_file_bytes(mlmodel)
    finding = "" if predicted_file == actual_file else "Its size differs from the prediction."
    rows.append(("", predicted_file, actual_file, np.nan, np.nan, np.nan, finding))
    index = pd.Index([*plan.schemes, *plan.activations, "weight.bin"], name="weight")
    table = pd.DataFrame(rows, index=index, columns=_COLUMNS)
    table.insert(3, "match", table["predicted_bytes"] == table["actual_bytes"])
    # Its size does not depend on the device.
    table.attrs["predicted_package_bytes"] = plan.estimate(devices()[0]).size_bytes
    table.attrs["package_bytes"] = _package_bytes(mlmodel)
    table.attrs["verdict"] = _verdict(table)
    return table


def _opened(compressed: ct.models.MLModel | str | os.PathLike[str]) -> ct.models.MLModel:
    """Return a model whose program is in memory, which it is not where coremltools read the package."""
    if isinstance(compressed, (str, os.PathLike)):
        mlmodel = open_package(Path(compressed), progress=False)
    elif isinstance(compressed, ct.models.MLModel):
        mlmodel = compressed
    else:
        kind = type(compressed).__name__
        message = (
            f"verify() takes what plan.compress() returns or the path of an .mlpackage, not a value of type {kind}."
        )
        raise LoadError(message)
    if mlmodel._mil_program is None:  # noqa: SLF001 - filled as coremltools itself does after a conversion
        name = Path(mlmodel.package_path or "The model").name
        check(mlmodel, name)
        mlmodel._mil_program = parse(mlmodel, name)  # noqa: SLF001
    return mlmodel


def _activation_rows(plan: Plan, mlmodel: ct.models.MLModel) -> list[tuple[str, int, int, float, float, float, str]]:
    """Return the rows of the ops whose activations are to be int8."""
    ops = {op.name: op for op in walk(mil_function(mlmodel))}
    rows = []
    for name in plan.activations:
        done = name in ops and reads_int8(ops[name])
        finding = "" if done else "It reads its activations in float."
        rows.append((_ACTIVATIONS, 0, 0, np.nan, np.nan, np.nan, finding))
    return rows


def _judged(
    original: NDArray[np.floating], stored: NDArray[np.floating], scheme: Scheme, channel_axes: tuple[int, int] | None
) -> tuple[float, str]:
    """Return the expected SQNR in dB, NaN where it is not known, and what is wrong with the stored values."""
    if original.shape != stored.shape:
        return np.nan, f"Its shape is {stored.shape} instead of {original.shape}."
    if isinstance(scheme, Float16):
        same = np.array_equal(original, stored, equal_nan=True)
        return np.inf, "" if same else "Its values changed, though it is not compressed."
    with np.errstate(all="ignore"):
        if not np.isfinite(original).all():
            return np.nan, ""
        if is_determined(scheme):
            exact = dequantized(original, scheme, channel_axes=channel_axes)
            largest = float(np.abs(original).max(initial=0.0))
            off = float(np.abs(exact.astype(np.float64) - stored).max(initial=0.0))
            wrong = not off <= _EXACT_TOLERANCE * largest
            return _sqnr_db(original, exact), f"A value is off by {off:g}." if wrong else ""
    actual = _sqnr_db(original, stored)
    misplaced = _misplaced(original, stored, scheme, channel_axes)
    if isinstance(scheme, Palettize) and scheme.cluster_dim == 1:
        [error] = squared_errors(original, [scheme], channel_axes=channel_axes)
        expected = _ratio_db(float(np.sum(original.astype(np.float64) ** 2)), float(error))
        wrong = not actual >= expected - _SQNR_TOLERANCE_DB
    else:
        expected = np.nan
        wrong = not actual >= 0  # worse than no weight at all
    if misplaced:
        return expected, f"{misplaced:,} of its values are not stored as the nearest entry of their table."
    return expected, f"Its SQNR is {actual:.1f} dB, far worse than the scheme's own." if wrong else ""


def _misplaced(
    original: NDArray[np.floating],
    stored: NDArray[np.floating],
    scheme: Scheme,
    channel_axes: tuple[int, int] | None,
) -> int:
    """Count the values, or vectors, that another entry of their own table would be nearer to, by more than rounding.

    What pruning sets to zero is known beforehand and in no table. Tables of integers move their entries after each
    value got its own, by half a step at most, which is the same for all tables of a weight and goes by the largest
    entry of all; coremltools reckons the entry of a uniform table in float16; palettes of integers are not looked at.
    """
    palette, pruned = part(scheme, Palettize), part(scheme, Prune)
    if palette is None or scheme.parts[0] not in (palette, pruned):
        return 0
    kept = np.ones(original.shape, dtype=bool) if pruned is None else prune(original, pruned) != 0
    step = 0.0 if scheme.parts[-1] is palette else float(np.abs(stored).max(initial=0.0)) / _SYMMETRIC_STEPS
    reckoned = _UNIFORM_SLACK if palette.mode == "uniform" else 0.0
    weight = Subject(original.shape, channel_axes, "iOS18")
    axis = grouped_axis(palette, weight)
    tables = table_counts(palette, weight)[axis]
    count = int(np.count_nonzero(stored[~kept]))
    for values, entries, chosen in zip(
        *(np.split(each, tables, axis) for each in (original, stored, kept)), strict=True
    ):
        in_vectors = [np.moveaxis(each, axis, -1).reshape(-1, palette.cluster_dim) for each in (values, entries)]
        chosen_vectors = np.moveaxis(chosen, axis, -1).reshape(-1, palette.cluster_dim).all(axis=1)
        wanted, found = (each[chosen_vectors].astype(np.float64) for each in in_vectors)
        count += _not_nearest(wanted, found, step + reckoned * float(np.abs(found).max(initial=0.0)))
    return count


def _not_nearest(wanted: NDArray[np.float64], found: NDArray[np.float64], slack: float) -> int:
    """Count the vectors that are nearer to what stands for others than to what stands for them; (vectors, size).

    They may be so by rounding and by `slack`, in the unit of the values.
    """
    if not len(wanted):
        return 0
    # By hashing: np.unique sorts, and took three quarters of the time for the embeddings of a language model.
    table = pd.DataFrame(found).drop_duplicates().to_numpy()
    table = table[np.lexsort(table.T)]
    if table.shape[1] == 1:
        entries = table[:, 0]
        nearest = entries[np.searchsorted((entries[1:] + entries[:-1]) / 2, wanted[:, 0])]
        least = np.abs(wanted[:, 0] - nearest)
    else:
        _, least = pairwise_distances_argmin_min(wanted, table)
    off = np.linalg.norm(wanted - found, axis=1) - least
    rounding = 2 * np.spacing(np.abs(found).max(axis=1).astype(np.float16)).astype(np.float64) * np.sqrt(table.shape[1])
    return int(np.count_nonzero(off > rounding + slack))


def _sqnr_db(original: NDArray[np.floating], stored: NDArray[np.floating]) -> float:
    if original.shape != stored.shape:
        return np.nan
    signal = original.astype(np.float64)
    # Infinite values are equal to themselves, and their difference is not a number.
    noise = np.where(original == stored, 0.0, signal - stored.astype(np.float64))
    return _ratio_db(float(np.sum(signal**2)), float(np.sum(noise**2)))


def _ratio_db(power: float, noise: float) -> float:
    if noise == 0:
        return np.inf
    return float(10 * np.log10(power / noise)) if power else -np.inf


def _package_bytes(mlmodel: ct.models.MLModel) -> int:
    """Count the bytes of the package as it is saved: a model that was just converted has no metadata on disk yet."""
    files = [file for file in Path(mlmodel.package_path).rglob("*") if file.is_file() and file.suffix != ".mlmodel"]
    return int(mlmodel.get_spec().ByteSize()) + sum(file.stat().st_size for file in files)


def _actual_file_bytes(mlmodel: ct.models.MLModel) -> int:
    path = Path(mlmodel.weights_dir) / "weight.bin"
    return path.stat().st_size if path.exists() else 0


def _verdict(table: pd.DataFrame) -> str:
    wrong = table[table["finding"] != ""]
    ops = int((table["scheme"] == _ACTIVATIONS).sum())
    weights = len(table) - 1 - ops
    if wrong.empty:
        eight = f", {ops} ops with int8 activations" if ops else ""
        total = table["actual_bytes"].iloc[-1]
        package, predicted = table.attrs["package_bytes"], table.attrs["predicted_package_bytes"]
        near = abs(package - predicted) <= max(_PACKAGE_TOLERANCE * predicted, _PACKAGE_TOLERANCE_BYTES)
        judged = "as predicted within 0.01 %" if near else f"not the {predicted:,} that were predicted"
        return (
            f"All {weights} weights{eight} and weight.bin are exactly as predicted: {total:,} bytes. "
            f"The package takes {package:,} bytes, {judged}."
        )
    first, finding = wrong.index[0], wrong["finding"].iloc[0]
    return f"{len(wrong)} of {len(table)} differ from the prediction, first {first!r}: {finding}"
