"""Plan → coremltools: configs, Python source, the compressed model, and the proof that it is what was predicted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from coremltools.optimize import coreml as cto

from talaria_nb.compressed import PREFIX, dense_value, payload_bytes
from talaria_nb.costs import stored_weight, weight_file_bytes
from talaria_nb.errors import ExportError
from talaria_nb.quiet import quiet
from talaria_nb.read import mil_function
from talaria_nb.schemes import Float16, Joint, LinearQuantize, Palettize, Prune, Scheme

if TYPE_CHECKING:
    import coremltools as ct
    from coremltools.converters.mil.mil import Operation

    from talaria_nb.plan import Plan

Pass: TypeAlias = Literal["prune", "palettize", "linear_quantize"]

_COLUMNS = ("scheme", "predicted_bytes", "actual_bytes", "sqnr_db")


def optimization_configs(plan: Plan) -> list[tuple[Pass, cto.OptimizationConfig]]:
    """Write a plan as coremltools configs.

    Parameters
    ----------
    plan
        Any plan.

    Returns
    -------
    list of (pass, OptimizationConfig)
        In the order to apply them: "prune" goes to `coremltools.optimize.coreml.prune_weights`, "palettize" to
        `palettize_weights` and "linear_quantize" to `linear_quantize_weights`; if the plan `has_joints`, all but the
        first with `joint_compression=True`. Weights are keyed by const name, which is the first thing that
        coremltools looks up, so a weight that several ops share has one config. Empty for an all-float16 plan.
    """
    configs: list[tuple[Pass, cto.OptimizationConfig]] = []
    for name, chosen in _by_pass(plan):
        op_configs = {weight: _op_config(scheme) for weight, scheme in chosen.items()}
        configs.append((name, cto.OptimizationConfig(op_name_configs=op_configs)))
    return configs


def has_joints(plan: Plan) -> bool:
    """Tell whether a plan has joint schemes: all passes but the first then need `joint_compression=True`."""
    return any(isinstance(scheme, Joint) for scheme in plan.scheme_of_weight)


def to_python(plan: Plan) -> str:
    """Write a plan as Python source that needs coremltools alone.

    Returns
    -------
    str
        Source that defines `compress(mlmodel)`. It runs as it stands.
    """
    lines = [
        f'"""Compress {_one_line(plan.model.program.name)} with coremltools as planned in talaria-nb."""',
        "",
        "import coremltools.optimize.coreml as cto",
        "",
    ]
    steps: list[str] = []
    joint = ", joint_compression=True" if has_joints(plan) else ""
    for at, (name, chosen) in enumerate(_by_pass(plan)):
        variable = f"{name}_config" if at == 0 or not joint else f"{name}_config_{at}"
        steps.append(f"    mlmodel = cto.{name}_weights(mlmodel, {variable}{joint if at else ''})")
        by_scheme: dict[Scheme, list[str]] = {}
        for weight, scheme in chosen.items():
            by_scheme.setdefault(scheme, []).append(weight)
        lines += [f"{variable} = cto.OptimizationConfig()"]
        for scheme, weights in by_scheme.items():
            lines += [
                f"op_config = cto.{_config_class(scheme).__name__}({_arguments_text(scheme)})",
                "for name in (",
                *(f"    {weight!r}," for weight in weights),
                "):",
                f"    {variable}.set_op_name(name, op_config)",
            ]
        lines.append("")
    lines += [
        "",
        "def compress(mlmodel):",
        '    """Return the compressed model; save it with .save("compressed.mlpackage")."""',
        *steps,
        "    return mlmodel",
        "",
    ]
    return "\n".join(lines)


def compress(plan: Plan, *, progress: bool = True) -> ct.models.MLModel:
    """Compress the model as planned, by coremltools itself.

    Parameters
    ----------
    plan
        Any plan.
    progress
        Whether coremltools shows its progress bars.

    Returns
    -------
    coremltools.models.MLModel
        A new model; the plan's own is left alone. For a plan that changes nothing it is the model itself.

    Raises
    ------
    ExportError
        If coremltools fails, or leaves a weight as it was without saying so.
    """
    mlmodel = plan.model.mlmodel
    apply = {
        "prune": cto.prune_weights,
        "palettize": cto.palettize_weights,
        "linear_quantize": cto.linear_quantize_weights,
    }
    joint = has_joints(plan)
    for at, (name, config) in enumerate(optimization_configs(plan)):
        try:
            with quiet(progress=progress):
                # What was compressed before may be compressed further; the first pass finds nothing such.
                further = {"joint_compression": True} if joint and at > 0 else {}
                mlmodel = apply[name](mlmodel, config, **further)
        except Exception as error:
            message = f"coremltools failed to {name} {plan.model.program.name}: {error}"
            raise ExportError(message) from error
    constexprs = _constexprs(mlmodel, plan)
    skipped = [
        weight
        for weight, scheme in plan.schemes.items()
        if not isinstance(scheme, Float16) and weight not in constexprs
    ]
    if skipped:
        message = (
            f"coremltools skipped {len(skipped)} weights without saying why, first {skipped[0]!r}. "
            "Set them to tnb.Float16() and report the model to talaria-nb."
        )
        raise ExportError(message)
    return mlmodel


def verify(plan: Plan, compressed: ct.models.MLModel | None = None, *, progress: bool = True) -> pd.DataFrame:
    """Compare what was predicted with what coremltools wrote.

    Parameters
    ----------
    plan
        The plan that `compressed` was made from.
    compressed
        What `plan.compress()` returned; None compresses now.
    progress
        Whether coremltools shows its progress bars while it compresses.

    Returns
    -------
    pandas.DataFrame
        Index: weight names, then "weight.bin". Columns: scheme; predicted_bytes and actual_bytes (data, tables and
        scales of a weight; the whole file in the last row); match; sqnr_db, the signal-to-quantization-noise ratio of
        the weight read back from the compressed model, in dB (inf for an unchanged weight, NaN in the last row).
        `frame.attrs["verdict"]` says in one line whether everything matches.

    Raises
    ------
    ExportError
        If compression fails.
    """
    mlmodel = compress(plan, progress=progress) if compressed is None else compressed
    constexprs = _constexprs(mlmodel, plan)
    program = plan.model.program
    rows: list[tuple[str, int, int, float]] = []
    for row, (weight, scheme) in enumerate(plan.schemes.items()):
        original = plan.model.weight_value(weight)
        predicted = stored_weight(program, scheme, row).payload_bytes
        op = constexprs.get(weight)
        if op is None:
            rows.append((scheme.label, predicted, int(original.nbytes), np.inf))
        else:
            rows.append((scheme.label, predicted, payload_bytes(op), _sqnr_db(original, dense_value(op))))
    table = pd.DataFrame(
        rows,
        index=pd.Index([*plan.schemes], name="weight"),
        columns=_COLUMNS,
    )
    predicted_file = weight_file_bytes(program, plan.scheme_of_weight)
    table = pd.concat([table, _file_row(predicted_file, _actual_file_bytes(mlmodel))])
    table.insert(3, "match", table["predicted_bytes"] == table["actual_bytes"])
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


_PASS_OF: dict[type[Scheme], Pass] = {
    Prune: "prune",
    Palettize: "palettize",
    LinearQuantize: "linear_quantize",
}
_STEM = {"prune": "_sparsified", "palettize": "_palettized", "linear_quantize": "_quantized"}
"""What a pass appends to a weight's name, by which the next pass of a joint scheme finds it."""


def _by_pass(plan: Plan) -> list[tuple[Pass, dict[str, Scheme]]]:
    """Split a plan into passes, in the order to apply them: the parts of joint schemes follow each other.

    Quantization comes twice where integers are palettized: before the palettes, and after them for tables.
    """
    passes: dict[tuple[int, Pass], dict[str, Scheme]] = {}
    packed = plan.model.program.weights.packed
    for row, (weight, scheme) in enumerate(plan.schemes.items()):
        if row in packed or isinstance(scheme, Float16):
            continue
        name = weight
        for at, simple in enumerate(scheme.parts):
            wanted = _PASS_OF[type(simple)]
            early = wanted == "linear_quantize" and at == 0 and len(scheme.parts) > 1
            passes.setdefault((_ORDER[wanted] - 2 * early, wanted), {})[name] = simple
            name += _STEM[wanted] if at == 0 else ""
    return [(name, chosen) for (_, name), chosen in sorted(passes.items(), key=lambda item: item[0][0])]


_ORDER: dict[Pass, int] = {"prune": 0, "palettize": 2, "linear_quantize": 3}


def _config_class(scheme: Scheme) -> Any:
    if isinstance(scheme, Prune):
        return cto.OpMagnitudePrunerConfig if scheme.threshold is None else cto.OpThresholdPrunerConfig
    return cto.OpPalettizerConfig if isinstance(scheme, Palettize) else cto.OpLinearQuantizerConfig


def _arguments(scheme: Scheme) -> dict[str, object]:
    """List the arguments of a scheme's coremltools config class, defaults left out where they say the same."""
    optional: tuple[str, ...]
    given: dict[str, object]
    if isinstance(scheme, Palettize):
        given = {"mode": scheme.mode, "granularity": scheme.granularity}
        optional = ("nbits", "group_size", "channel_axis", *(("cluster_dim",) if scheme.cluster_dim > 1 else ()))
    elif isinstance(scheme, LinearQuantize):
        given = {"mode": scheme.mode, "dtype": scheme.dtype, "granularity": scheme.granularity}
        optional = ("block_size",)
    elif isinstance(scheme, Prune):
        # Without the minimum, coremltools skips weights of which the threshold leaves more than half.
        given = {} if scheme.threshold is None else {"minimum_sparsity_percentile": 0.0}
        optional = ("target_sparsity", "n_m_ratio", "threshold", "block_size", "dim")
    else:
        message = f"{scheme!r} has no coremltools config."
        raise TypeError(message)
    values = {name: getattr(scheme, name) for name in optional}
    return given | {name: value for name, value in values.items() if value is not None}


def _op_config(scheme: Scheme) -> Any:
    return _config_class(scheme)(**_arguments(scheme))


def _arguments_text(scheme: Scheme) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in _arguments(scheme).items())


def _one_line(text: str) -> str:
    return " ".join(text.replace("\\", "/").replace('"', "'").split())


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
            suffix = next((suffix for suffix in _STEM.values() if op.name.endswith(suffix)), "")
            found[op.name if op.name in loaded else op.name.removesuffix(suffix)] = op
    return found


def _sqnr_db(original: np.ndarray, stored: np.ndarray) -> float:
    signal = original.astype(np.float64)
    noise = float(np.sum((signal - stored.astype(np.float64)) ** 2))
    power = float(np.sum(signal**2))
    if noise == 0:
        return np.inf
    return float(10 * np.log10(power / noise)) if power else -np.inf


def _actual_file_bytes(mlmodel: ct.models.MLModel) -> int:
    path = Path(mlmodel.weights_dir) / "weight.bin"
    return path.stat().st_size if path.exists() else 0


def _file_row(predicted: int, actual: int) -> pd.DataFrame:
    return pd.DataFrame(
        [("", predicted, actual, np.nan)], index=pd.Index(["weight.bin"], name="weight"), columns=_COLUMNS
    )


def _verdict(table: pd.DataFrame) -> str:
    wrong = table.index[~table["match"]].tolist()
    weights = len(table) - 1
    if not wrong:
        total = table["actual_bytes"].iloc[-1]
        return f"All {weights} weights and weight.bin are exactly as predicted: {total:,} bytes."
    return f"{len(wrong)} of {weights + 1} differ from the prediction, first {wrong[0]!r}."
