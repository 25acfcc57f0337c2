"""int8 activations: coremltools finds their ranges by running the model on samples, which needs macOS.

Written against `linear_quantize_activations` of coremltools 9 and tested on Linux with a stand-in of `MLModel.predict`,
but never yet on a Mac: **untested on hardware**. What that function does is done in its own passes, with three
differences: the ranges are those of all samples (9.0 keeps those of the last one, apple/coremltools issue 2704),
a tensor that was zero throughout gets the scale 1 on both sides of an op, where one would be 0, and the ops that round
are numbered in the order in which they run, in four digits each, so that their names can be counted beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from coremltools.converters.mil.mil.passes.defs.optimize_activation_quantization import (
    insert_suffix_quantize_dequantize_pair,
)
from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY, register_pass
from coremltools.models import utils as coreml_utils
from coremltools.optimize.coreml._quantization_passes import insert_prefix_quantize_dequantize_pair
from coremltools.optimize.coreml.experimental._post_training_quantization import _get_activation_calibration_stats

from talaria_nb.activation_legality import ACTIVATION_OPS, parameters_rounded
from talaria_nb.coreml import is_mac
from talaria_nb.errors import ExportError, did_you_mean
from talaria_nb.read import mil_function
from talaria_nb.roundings import DEQUANTIZE, DTYPE, QUANTIZE, SCALE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import coremltools as ct
    from coremltools.converters.mil.mil import Operation, Program, Var
    from coremltools.optimize.coreml import OptimizationConfig
    from coremltools.proto import FeatureTypes_pb2

Ranges = dict[str, dict[str, float]]
"""Smallest (rmin) and largest (rmax) value of each tensor, by its name; what coremltools calls `activation_stats`."""

_LEVELS = 254
"""Steps from -127 to 127."""

NUMBERING = "talaria::number_roundings"
"""The pass that names the ops that round."""

_FLOAT = "plan.set_activations('*', None) leaves them in float."


def quantize(mlmodel: ct.models.MLModel, config: OptimizationConfig, sample_data: object) -> ct.models.MLModel:
    """Return a copy of a model whose activations are int8 where a config says so.

    Parameters
    ----------
    mlmodel
        From iOS17 on.
    config
        As coremltools' `linear_quantize_activations` takes it.
    sample_data
        As in `calibrate`.

    Raises
    ------
    ExportError
        As `calibrate`.
    """
    return coreml_utils._apply_graph_pass(  # noqa: SLF001 - as all of coremltools' own functions do
        mlmodel, passes(config, calibrate(mlmodel, config, sample_data))
    )


def calibrate(mlmodel: ct.models.MLModel, config: OptimizationConfig, sample_data: object) -> Ranges:
    """Run a model on samples and note the range of every tensor.

    Parameters
    ----------
    mlmodel
        The model, before any compression.
    config
        Which ops are to read int8.
    sample_data
        A list of inputs by name, as `MLModel.predict` takes them.

    Returns
    -------
    Ranges
        Over all samples.

    Raises
    ------
    ExportError
        If samples are missing or do not fit the model, this is no Mac, or a tensor that an op is to read in int8 has no
        range or an infinite one.
    """
    samples = list(_checked(mlmodel, sample_data))
    if not is_mac():
        raise ExportError(
            "int8 activations are calibrated by running the model, and Core ML runs on macOS only: "
            f"compress there, with the same plan and samples. {_FLOAT}"
        )
    ranges: Ranges = {}
    for sample in samples:
        for name, found in _get_activation_calibration_stats(mlmodel, [sample]).items():
            known = ranges.setdefault(name, {"rmin": np.inf, "rmax": -np.inf})
            known["rmin"] = min(known["rmin"], float(found["rmin"]))
            known["rmax"] = max(known["rmax"], float(found["rmax"]))
    for op in _quantized_ops(mlmodel, config):
        for name in _read(op):
            _check_range(name, ranges, op.name)
    return {name: _with_a_scale(each) for name, each in ranges.items()}


def passes(config: OptimizationConfig, ranges: Ranges) -> list[AbstractGraphPass]:
    """Return the passes of coremltools' `linear_quantize_activations`, in order."""
    before = insert_prefix_quantize_dequantize_pair(config)
    after = insert_suffix_quantize_dequantize_pair()
    after.config = config
    before.activation_stats = after.activation_stats = ranges
    return [before, after, PASS_REGISTRY["common::dequantize_quantize_pair_elimination"]]


@register_pass(namespace="talaria")
class number_roundings(AbstractGraphPass):  # type: ignore[misc] # noqa: N801 - coremltools registers it by the name of the class
    """Name `quantize` and `dequantize` ops and their constants by the order in which they run."""

    def apply(self, prog: Program) -> None:
        """Rename the ops of the main function."""
        counts = {"quantize": 0, "dequantize": 0}
        for op in prog.functions["main"].operations:
            if op.op_type in counts:
                name = (QUANTIZE if op.op_type == "quantize" else DEQUANTIZE).format(counts[op.op_type])
                counts[op.op_type] += 1
                _rename(op.outputs[0], name)
                _rename(op.scale, name + SCALE)
                if op.op_type == "quantize":
                    _rename(op.output_dtype, name + DTYPE)


def _rename(var: Var, name: str) -> None:
    var.name = name
    var.op.name = name


def reads_int8(op: Operation) -> bool:
    """Whether an op reads what was rounded to 8 bits."""
    made_by = [op.inputs[name].op for name in parameters_rounded(op.op_type)]
    return all(op is not None and op.op_type == "dequantize" for op in made_by)


def _checked(mlmodel: ct.models.MLModel, sample_data: object) -> Iterator[dict[str, Any]]:
    """Yield copies of the samples, for coremltools changes what it is given."""
    if not isinstance(sample_data, Sequence) or not sample_data:
        raise ExportError(
            "The plan has int8 activations: give sample_data to calibrate them on, a list of inputs by name as "
            f"MLModel.predict takes them. {_FLOAT}"
        )
    expected = {each.name: each.type for each in mlmodel.get_spec().description.input}
    for number, sample in enumerate(sample_data):
        where = f"sample_data[{number}]"
        if not isinstance(sample, Mapping):
            raise ExportError(f"{where} must be a dict of inputs by name, not a value of type {type(sample).__name__}.")
        for name in sample:
            if name not in expected:
                hint = did_you_mean(name, expected) or f" The model takes {', '.join(map(repr, expected))}."
                raise ExportError(f"{where} names {name!r}, which is no input of the model.{hint}")
        for name, kind in expected.items():
            if name not in sample:
                raise ExportError(f"{where} lacks the input {name!r}.")
            _check_value(f"{where}[{name!r}]", sample[name], kind)
        yield dict(sample)


def _check_value(where: str, value: object, kind: FeatureTypes_pb2.FeatureType) -> None:
    if kind.WhichOneof("Type") != "multiArrayType":
        return
    array, shape = np.asarray(value), tuple(kind.multiArrayType.shape)
    if not np.issubdtype(array.dtype, np.number):
        raise ExportError(f"{where} must be an array of numbers, not a value of type {type(value).__name__}.")
    if kind.multiArrayType.WhichOneof("ShapeFlexibility") is None and array.shape != shape:
        raise ExportError(f"{where} has shape {array.shape}; the model takes {shape}.")
    if not np.isfinite(array).all():
        raise ExportError(f"{where} holds values that are not finite, so it has no range.")


def _quantized_ops(mlmodel: ct.models.MLModel, config: OptimizationConfig) -> list[Operation]:
    return [
        op
        for op in mil_function(mlmodel).operations
        if op.op_type in ACTIVATION_OPS and config._get_op_config(op) is not None  # noqa: SLF001
    ]


def _read(op: Operation) -> list[str]:
    """Name the tensors that an op would read in int8; none where coremltools passes it over."""
    read = [op.inputs[name] for name in parameters_rounded(op.op_type)]
    return [] if any(var.op is not None and var.op.op_type == "const" for var in read) else [var.name for var in read]


def _check_range(name: str, ranges: Ranges, op: str) -> None:
    leave = f"Leave {op} in float: plan.set_activations({op!r}, None)."
    if name not in ranges:
        raise ExportError(f"coremltools finds no range for {name}, which {op} reads. {leave}")
    low, high = ranges[name]["rmin"], ranges[name]["rmax"]
    if not max(-low, high) <= np.finfo(np.float16).max:
        raise ExportError(
            f"{name}, which {op} reads, goes from {low:g} to {high:g} in the samples, beyond float16. {leave}"
        )


def _with_a_scale(found: dict[str, float]) -> dict[str, float]:
    """Widen a range that is zero once its scale is rounded to float16, in which coremltools reckons."""
    largest = np.float16(max(-found["rmin"], found["rmax"]))
    return found if 2 * largest / np.float16(_LEVELS) > 0 else {"rmin": 0.0, "rmax": _LEVELS / 2}
