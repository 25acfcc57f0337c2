"""Compress a model as planned, by coremltools' own passes, and save it whole or not at all."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremltools.optimize.coreml import OpPalettizerConfig
from coremltools.optimize.coreml import _quantization_passes as graph_passes

from talaria_nb import activations, coreml
from talaria_nb.compressed import PREFIX
from talaria_nb.configs import ACTIVATIONS, STEM, ConfiguredPass, arguments, op_config, passes
from talaria_nb.coreml import walk
from talaria_nb.distortion import palette
from talaria_nb.errors import ExportError
from talaria_nb.paths import expanded
from talaria_nb.progress import bar
from talaria_nb.quiet import quiet
from talaria_nb.read import mil_function
from talaria_nb.schemes import Float16, Palettize, Prune, part
from talaria_nb.whole_file import reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    import coremltools as ct
    import numpy as np
    from coremltools.converters.mil.mil import Operation
    from numpy.typing import NDArray

    from talaria_nb.plan import Plan


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
        Inputs by name, as `MLModel.predict` takes them, on which int8 activations are calibrated; see
        `talaria_nb.activations.calibrate`. Needs a Mac. Left out, or of no account, where the plan has none.
    progress
        Whether a progress bar shows; it vanishes at the end.

    Returns
    -------
    coremltools.models.MLModel
        A new model; the plan's own is left alone. For a plan that changes nothing it is the model itself.

    Raises
    ------
    ExportError
        If coremltools fails, or leaves a weight as it was without saying so, the plan has int8 activations and the
        samples are missing or do not fit or this is no Mac, or the package cannot be saved.
    """
    steps = [_configured(plan, rules, own_tables=own_tables) for rules in passes(plan, explicit=True)]
    mlmodel = plan.model.mlmodel
    if steps:
        try:
            with bar(shown=progress), quiet(progress=progress):
                mlmodel = coreml.make(partial(_apply, mlmodel, steps, sample_data))
        except ExportError:
            raise
        except Exception as error:
            names = " and ".join(dict.fromkeys(name for name, _ in steps))
            message = f"coremltools failed to {names} {plan.model.program.name}: {error}"
            raise ExportError(message) from error
    skipped = [weight for weight in _compressed_weights(plan) if weight not in constexprs(mlmodel, plan)]
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
    target = checked_path(path, ".mlpackage", "A compressed model")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.stem}-", dir=target.parent) as folder:
            written = Path(folder) / target.name
            mlmodel.save(str(written))
            _replace(written, target, Path(folder) / "before")
    except OSError as error:
        raise ExportError(f"{target} could not be saved: {reason(error)} Nothing was changed there.") from error
    return target


def checked_path(path: str | os.PathLike[str], ending: str, what: str) -> Path:
    """Return where something can be saved.

    Parameters
    ----------
    path
        Has the ending, or gets it.
    ending
        With its dot.
    what
        What is saved, for the message.

    Raises
    ------
    ExportError
        If it is no path, there is no name, the ending is another, or the folder does not exist.
    """
    if not isinstance(path, (str, os.PathLike)):  # notebooks are untyped
        raise ExportError(f"{what} is saved under a path, not under {path!r:.80}.")
    target = expanded(path, ExportError)
    if not target.name:
        raise ExportError(f"{what} needs a name to be saved under.")
    target = target.with_name(target.name + ending) if not target.suffix else target
    if target.suffix != ending:
        raise ExportError(f"{what} is saved as a {ending}, not as {target.name!r}.")
    if not target.parent.is_dir():
        raise ExportError(f"{target.name} cannot be saved: the folder {target.parent} does not exist.")
    return target


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
        else:
            found.append(weight + STEM["prune" if isinstance(scheme.parts[0], Prune) else "linear_quantize"])
    return found


def _best_table(scheme: Palettize, values: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.uint8]]:
    """Cluster what coremltools gives its `lut_function`: the values of one group."""
    tables, indices = palette(values, scheme, None)
    return tables[0], indices[0]


def _apply(
    mlmodel: ct.models.MLModel, steps: list[ConfiguredPass], sample_data: object, package_dir: str
) -> ct.models.MLModel:
    """Run all passes over one copy of the program, which coremltools' own functions parse and write once for each."""
    made, last = [], None
    for step in steps:
        name, config = step
        if name == ACTIVATIONS:
            last = activations.NUMBERING
            made += activations.passes(config, activations.calibrate(mlmodel, config, sample_data))
            continue
        graph_pass = getattr(graph_passes, f"{name}_weights")(config)
        graph_pass.joint_compression = step.joint_compression
        made.append(graph_pass)
    return coreml.rewritten(mlmodel, made, package_dir, last)


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


def _compressed_weights(plan: Plan) -> list[str]:
    return [weight for weight, scheme in plan.schemes.items() if not isinstance(scheme, Float16)]


def constexprs(mlmodel: ct.models.MLModel, plan: Plan | None = None) -> dict[str, Operation]:
    """Find the op that decompresses each weight, by the weight's original const name.

    A weight that the plan's model already holds compressed goes by the name of that op itself. Weights that came out
    equal share one op, which has the name of the first.
    """
    weights = plan.model.program.weights if plan is not None else None
    loaded = {weights.name[row] for row in weights.packed} if weights is not None else set()
    found: dict[str, Operation] = {}
    for op in walk(mil_function(mlmodel)):
        readers = [reader.op_type for reader in op.outputs[0].child_ops]
        if op.op_type.startswith(PREFIX) and not all(reader.startswith(PREFIX) for reader in readers):
            suffix = next((suffix for suffix in STEM.values() if op.name.endswith(suffix)), "")
            found[op.name if op.name in loaded else op.name.removesuffix(suffix)] = op
    if plan is not None:
        ops = {op.name: op for op in walk(mil_function(mlmodel))}
        for row, weight in enumerate(plan.schemes):
            read = None if weight in ops or weight in found else _read_instead(plan, row, ops)
            if read is not None:
                found[weight] = read
    return found


def _read_instead(plan: Plan, row: int, ops: Mapping[str, Operation]) -> Operation | None:
    """Find the op of a compressed program whose output is read where a weight was."""
    program = plan.model.program
    value = int(program.weights.value[row])
    reader = program.weights.readers[row][0]
    parameter = next(parameter for parameter, read in program.ops.inputs[reader] if read == value)
    place = [read for at, read in program.ops.inputs[reader] if at == parameter].index(value)
    now = ops.get(program.ops.name[reader])
    given = now.inputs.get(parameter) if now is not None else None
    var = given[place] if isinstance(given, (list, tuple)) else given
    return var.op if var is not None and var.op is not None and var.op.op_type.startswith(PREFIX) else None
