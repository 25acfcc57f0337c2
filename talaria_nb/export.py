"""Compress a model as planned by coremltools' own passes, save it whole or not at all, and prove what came out."""

from __future__ import annotations

import errno
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from coremltools.converters.mil.converter import mil_convert
from coremltools.models import utils as coreml_utils
from coremltools.optimize.coreml import OpPalettizerConfig, linear_quantize_activations
from coremltools.optimize.coreml import _quantization_passes as graph_passes

from talaria_nb import coreml
from talaria_nb.compressed import PREFIX, dense_value, payload_bytes
from talaria_nb.configs import STEM, ConfiguredPass, activations_config, arguments, op_config, passes
from talaria_nb.costs import stored_weight, weight_file_bytes
from talaria_nb.devices import devices
from talaria_nb.distortion import dequantized, palette, squared_errors
from talaria_nb.errors import ExportError
from talaria_nb.legality import Subject, grouped_axis, table_counts
from talaria_nb.progress import bar
from talaria_nb.quiet import quiet
from talaria_nb.read import mil_function
from talaria_nb.schemes import Float16, Joint, LinearQuantize, Palettize, Prune, Scheme, part

if TYPE_CHECKING:
    import os

    import coremltools as ct
    from coremltools.converters.mil.mil import Operation
    from numpy.typing import NDArray

    from talaria_nb.plan import Plan

_COLUMNS = ("scheme", "predicted_bytes", "actual_bytes", "sqnr_db", "expected_sqnr_db", "max_error", "finding")

_SQNR_TOLERANCE_DB = 1.0
"""How much worse than expected a palette may be: coremltools' own clustering is up to 7 % (0.3 dB) worse than ours."""

_EXACT_TOLERANCE = 1e-3
"""How far values that are known beforehand may be off, over the largest of them: one step of float16 arithmetic."""


def compress(
    plan: Plan,
    path: str | os.PathLike[str] | None = None,
    *,
    own_tables: bool = True,
    sample_data: list[dict[str, NDArray[Any]]] | None = None,
    progress: bool = True,
) -> ct.models.MLModel:
    """Compress the model as planned, by coremltools' own passes.

    Parameters
    ----------
    plan
        Any plan.
    path
        Where to save the package; see `save`. None does not.
    own_tables
        Whether palettes get the tables of `distortion.palette`, which are found several times faster at equal or lower
        error; False leaves all clustering to coremltools, as `plan.optimization_configs()` does.
    sample_data
        Inputs by name, as `MLModel.predict` takes them, on which int8 activations are calibrated. Needs a Mac.
    progress
        Whether a progress bar shows; it vanishes at the end.

    Returns
    -------
    coremltools.models.MLModel
        A new model; the plan's own is left alone. For a plan that changes nothing it is the model itself.

    Raises
    ------
    ExportError
        If coremltools fails, or leaves a weight as it was without saying so, the plan has int8 activations and there
        are no samples, or the package cannot be saved.
    """
    activations = activations_config(plan)
    if activations is not None and sample_data is None:
        raise ExportError(
            "The plan has int8 activations: give compress() sample_data to calibrate them on, on a Mac. "
            "plan.set_activations('*', None) leaves them in float."
        )
    steps = [_configured(plan, rules, own_tables=own_tables) for rules in passes(plan, explicit=True)]
    mlmodel = plan.model.mlmodel
    if steps or activations is not None:
        try:
            with bar(shown=progress), quiet(progress=progress):
                if activations is not None:
                    mlmodel = linear_quantize_activations(mlmodel, activations, sample_data)
                mlmodel = coreml.make(partial(_apply, mlmodel, steps))
        except Exception as error:
            names = " and ".join(dict.fromkeys(name for name, _ in steps)) or "quantize the activations of"
            message = f"coremltools failed to {names} {plan.model.program.name}: {error}"
            raise ExportError(message) from error
    skipped = [weight for weight in _compressed_weights(plan) if weight not in _constexprs(mlmodel, plan)]
    if skipped:
        message = (
            f"coremltools skipped {len(skipped)} weights without saying why, first {skipped[0]!r}. "
            "Set them to tnb.Float16() and report the model to talaria-nb."
        )
        raise ExportError(message)
    if path is not None:
        save(mlmodel, path)
    return mlmodel


def save(mlmodel: ct.models.MLModel, path: str | os.PathLike[str]) -> Path:
    """Save a package whole or not at all: what is at `path` stays there until the new package is complete.

    Parameters
    ----------
    mlmodel
        What `compress` returned.
    path
        Ends in .mlpackage, or gets that ending.

    Returns
    -------
    pathlib.Path
        Where it was saved.

    Raises
    ------
    ExportError
        If the ending is another, the folder does not exist, or writing fails, as on a full disk.
    """
    target = Path(path).expanduser()
    target = target.with_name(target.name + ".mlpackage") if not target.suffix else target
    if target.suffix != ".mlpackage":
        raise ExportError(f"A compressed model is saved as a .mlpackage, not as {target.name!r}.")
    if not target.parent.is_dir():
        raise ExportError(f"{target.name} cannot be saved: the folder {target.parent} does not exist.")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.stem}-", dir=target.parent) as folder:
            written = Path(folder) / target.name
            mlmodel.save(str(written))
            _replace(written, target, Path(folder) / "before")
    except OSError as error:
        raise ExportError(f"{target} could not be saved: {_reason(error)} Nothing was changed there.") from error
    return target


def verify(plan: Plan, compressed: ct.models.MLModel | None = None, *, progress: bool = True) -> pd.DataFrame:
    """Compare what was predicted with what coremltools wrote, sizes and values.

    Parameters
    ----------
    plan
        The plan that `compressed` was made from.
    compressed
        What `plan.compress()` returned, or what coremltools made of `plan.optimization_configs()`; None compresses now.
    progress
        Whether a progress bar shows while it compresses.

    Returns
    -------
    pandas.DataFrame
        Index: weight names, then "weight.bin". Columns: scheme; predicted_bytes and actual_bytes (data, tables and
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
    """
    mlmodel = compress(plan, progress=progress) if compressed is None else compressed
    constexprs = _constexprs(mlmodel, plan)
    dense = {op.name: op for op in mil_function(mlmodel).operations if op.op_type == "const"}
    program = plan.model.program
    rows: list[tuple[str, int, int, float, float, float, str]] = []
    for row, (weight, scheme) in enumerate(plan.schemes.items()):
        original = plan.model.weight_value(weight)
        predicted = stored_weight(program, scheme, row).payload_bytes
        op = constexprs.get(weight)
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
    predicted_file, actual_file = weight_file_bytes(program, plan.scheme_of_weight), _actual_file_bytes(mlmodel)
    finding = "" if predicted_file == actual_file else "Its size differs from the prediction."
    rows.append(("", predicted_file, actual_file, np.nan, np.nan, np.nan, finding))
    index = pd.Index([*plan.schemes, "weight.bin"], name="weight")
    table = pd.DataFrame(rows, index=index, columns=_COLUMNS)
    table.insert(3, "match", table["predicted_bytes"] == table["actual_bytes"])
    # Its size does not depend on the device.
    table.attrs["predicted_package_bytes"] = plan.estimate(devices()[0]).size_bytes
    package = Path(mlmodel.package_path)
    table.attrs["package_bytes"] = sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
    table.attrs["verdict"] = _verdict(table)
    return table


def dequantized_weights(mlmodel: ct.models.MLModel) -> dict[str, np.ndarray]:
    """Read the weights of a compressed model back as the device would see them.

    Returns
    -------
    dict of str to numpy.ndarray
        Const name of each compressed weight → its values, float16 or float32, in the weight's own shape.
    """
    return {weight: dense_value(op) for weight, op in _constexprs(mlmodel).items()}


def _configured(plan: Plan, rules: Any, *, own_tables: bool) -> ConfiguredPass:
    step = ConfiguredPass.of(rules, op_config)
    if own_tables and rules.name == "palettize":
        for name in _clustered(plan):
            scheme = rules.names.get(name)
            if scheme is not None:
                given = {key: value for key, value in arguments(scheme).items() if key not in ("mode", "nbits")}
                table = partial(_best_table, Palettize(scheme.nbits))
                step[1].set_op_name(name, OpPalettizerConfig(mode="custom", lut_function=table, **given))
    return step


def _clustered(plan: Plan) -> list[str]:
    """Name the constants that palettes of scalars are made of by k-means."""
    contents = plan.model.program.weights.contents
    found = []
    for row, (weight, scheme) in enumerate(plan.schemes.items()):
        scalars = part(scheme, Palettize)
        if scalars is None or scalars.mode != "kmeans" or scalars.cluster_dim > 1 or contents[row].has_infinity:
            continue
        if scheme.parts[0] is scalars:
            found.append(weight)
        elif isinstance(scheme.parts[0], Prune):
            found.append(weight + STEM["prune"])
    return found


def _best_table(scheme: Palettize, values: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.uint8]]:
    """Cluster what coremltools gives its `lut_function`: the values of one group."""
    tables, indices = palette(values, scheme, None)
    return tables[0], indices[0]


def _apply(mlmodel: ct.models.MLModel, steps: list[ConfiguredPass], package_dir: str) -> ct.models.MLModel:
    """Run all passes over one copy of the program, which coremltools' own functions parse and write once for each."""
    made = []
    for step in steps:
        name, config = step
        graph_pass = getattr(graph_passes, f"{name}_weights")(config)
        graph_pass.joint_compression = step.joint_compression
        made.append(graph_pass)
    program = coreml_utils._apply_graph_pass(mlmodel, made, return_pymil_prog=True)  # noqa: SLF001
    spec = mlmodel._spec  # noqa: SLF001 - get_spec() copies it
    return mil_convert(
        program,
        convert_to="mlprogram",
        convert_from="milinternal",
        specification_version=spec.specificationVersion,
        compute_units=mlmodel.compute_unit,
        model_description=spec.description,
        skip_model_load=mlmodel.__proxy__ is None,
        package_dir=package_dir,
        main_pipeline=coreml.rewriting(),
    )


def _replace(written: Path, target: Path, before: Path) -> None:
    """Put a complete package in the place of whatever was there."""
    if target.exists():
        target.rename(before)
    try:
        written.rename(target)
    except BaseException:
        if before.exists():
            before.rename(target)
        raise


def _reason(error: OSError) -> str:
    # shutil gathers the errors of single files as text.
    if error.errno == errno.ENOSPC or "No space left" in str(error):
        return "the disk is full."
    return f"{error.strerror or error}."


def _compressed_weights(plan: Plan) -> list[str]:
    return [weight for weight, scheme in plan.schemes.items() if not isinstance(scheme, Float16)]


def _constexprs(mlmodel: ct.models.MLModel, plan: Plan | None = None) -> dict[str, Operation]:
    """Find the op that decompresses each weight, by the weight's original const name.

    A weight that the plan's model already holds compressed goes by the name of that op itself.
    """
    weights = plan.model.program.weights if plan is not None else None
    loaded = {weights.name[row] for row in weights.packed} if weights is not None else set()
    found: dict[str, Operation] = {}
    for op in mil_function(mlmodel).operations:
        readers = [reader.op_type for reader in op.outputs[0].child_ops]
        if op.op_type.startswith(PREFIX) and not all(reader.startswith(PREFIX) for reader in readers):
            suffix = next((suffix for suffix in STEM.values() if op.name.endswith(suffix)), "")
            found[op.name if op.name in loaded else op.name.removesuffix(suffix)] = op
    return found


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
        if _is_known(scheme):
            exact = dequantized(original, scheme, channel_axes=channel_axes)
            largest = float(np.abs(original).max(initial=0.0))
            off = float(np.abs(exact.astype(np.float64) - stored).max(initial=0.0))
            wrong = not off <= _EXACT_TOLERANCE * largest
            return _sqnr_db(original, exact), f"A value is off by {off:g}." if wrong else ""
    actual = _sqnr_db(original, stored)
    if isinstance(scheme, Palettize) and scheme.cluster_dim == 1:
        [error] = squared_errors(original, [scheme], channel_axes=channel_axes)
        expected = _ratio_db(float(np.sum(original.astype(np.float64) ** 2)), float(error))
        misplaced = _misplaced(original, stored, scheme, channel_axes)
        if misplaced:
            return expected, f"{misplaced:,} of its values are not stored as the nearest entry of their table."
        wrong = not actual >= expected - _SQNR_TOLERANCE_DB
    else:
        expected = np.nan
        wrong = not actual >= 0  # worse than no weight at all
    return expected, f"Its SQNR is {actual:.1f} dB, far worse than the scheme's own." if wrong else ""


def _misplaced(
    original: NDArray[np.floating],
    stored: NDArray[np.floating],
    scheme: Palettize,
    channel_axes: tuple[int, int] | None,
) -> int:
    """Count the values that another entry of their own table would be nearer to, by more than float16 rounds."""
    weight = Subject(original.shape, channel_axes, "iOS18")
    axis = grouped_axis(scheme, weight)
    tables = table_counts(scheme, weight)[axis]
    count = 0
    for values, kept in zip(np.split(original, tables, axis), np.split(stored, tables, axis), strict=True):
        entries = np.unique(kept).astype(np.float64)
        nearest = entries[np.searchsorted((entries[1:] + entries[:-1]) / 2, values.astype(np.float64))]
        rounding = np.spacing(np.abs(kept).astype(np.float16)) + np.spacing(np.abs(nearest).astype(np.float16))
        off = np.abs(values - kept.astype(np.float64)) - np.abs(values - nearest)
        count += int(np.count_nonzero(off > rounding.astype(np.float64)))
    return count


def _is_known(scheme: Scheme) -> bool:
    """Whether the values are known beforehand to the last bit: nothing is clustered."""
    if isinstance(scheme, Joint):
        return all(isinstance(simple, (Prune, LinearQuantize)) for simple in scheme.parts)
    return not isinstance(scheme, Palettize) or scheme.mode in ("uniform", "unique")


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


def _actual_file_bytes(mlmodel: ct.models.MLModel) -> int:
    path = Path(mlmodel.weights_dir) / "weight.bin"
    return path.stat().st_size if path.exists() else 0


def _verdict(table: pd.DataFrame) -> str:
    wrong = table[table["finding"] != ""]
    weights = len(table) - 1
    if wrong.empty:
        total = table["actual_bytes"].iloc[-1]
        package, predicted = table.attrs["package_bytes"], table.attrs["predicted_package_bytes"]
        return (
            f"All {weights} weights and weight.bin are exactly as predicted: {total:,} bytes. "
            f"The package takes {package:,} bytes, {predicted:,} were predicted."
        )
    first, finding = wrong.index[0], wrong["finding"].iloc[0]
    return f"{len(wrong)} of {weights + 1} differ from the prediction, first {first!r}: {finding}"
