"""Measure a model on Apple hardware: where each op runs, and how long it takes. Needs macOS.

The only file that runs models. It is written against coremltools' own benchmarker (`MLModelBenchmarker`, coremltools 9)
and was tested on Linux with stand-ins of Core ML underneath it, but never yet on a device: **untested on hardware**.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import coremltools as ct
import pandas as pd
from coremltools.models.compute_device import MLCPUComputeDevice, MLGPUComputeDevice, MLNeuralEngineComputeDevice
from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

from talaria_nb.coreml import is_mac
from talaria_nb.devices import COMPUTE_UNITS
from talaria_nb.errors import DeviceError
from talaria_nb.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from coremltools.models.ml_program.experimental.remote_device import Device as ConnectedDevice

_COREML_UNITS: Mapping[str, ct.ComputeUnit] = {
    "all": ct.ComputeUnit.ALL,
    "cpuAndNeuralEngine": ct.ComputeUnit.CPU_AND_NE,
    "cpuAndGPU": ct.ComputeUnit.CPU_AND_GPU,
    "cpuOnly": ct.ComputeUnit.CPU_ONLY,
}
assert set(_COREML_UNITS) == set(COMPUTE_UNITS)  # noqa: S101 - the two lists name the same four

_UNIT_NAMES = (
    (MLNeuralEngineComputeDevice, "neural_engine"),
    (MLGPUComputeDevice, "gpu"),
    (MLCPUComputeDevice, "cpu"),
)

ITERATIONS = 30
"""Predictions that are timed; the median of so many moves by about 1 % on an idle machine."""


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """What was measured of one model on one machine.

    Attributes
    ----------
    machine
        "this Mac", or the name of the connected device.
    compute_unit
        One of `talaria_nb.devices.COMPUTE_UNITS`, as asked for.
    latency_ms
        Median time of one prediction.
    samples_ms
        The time of every prediction, in order.
    ops
        One row an op that Core ML says anything about. Index: op names. Columns: unit ("neural_engine", "gpu" or
        "cpu"), where Core ML prefers to run it; supported, the units that could; latency_ms, the median prediction
        times the op's share of it, which is Core ML's own estimate and the only one there is; NaN where it gives none.
    """

    machine: str
    compute_unit: str
    latency_ms: float
    samples_ms: tuple[float, ...]
    ops: pd.DataFrame


def measure(
    mlmodel: ct.models.MLModel,
    inputs: Mapping[str, np.ndarray] | None = None,
    *,
    compute_unit: str = "all",
    iterations: int = ITERATIONS,
    device: ConnectedDevice | None = None,
) -> Measurement:
    """Time a model on this Mac or a connected device, and ask Core ML where its ops run.

    Parameters
    ----------
    mlmodel
        `model.mlmodel`, or what `plan.compress()` returned.
    inputs
        Input arrays by name; None draws random ones of the right shapes, which is wrong for indices that must stay
        below a table's size.
    compute_unit
        One of `talaria_nb.devices.COMPUTE_UNITS`.
    iterations
        Predictions to time, after one to warm up.
    device
        From coremltools' `Device.get_connected_devices`; None for this Mac.

    Returns
    -------
    Measurement

    Raises
    ------
    DeviceError
        On anything but macOS, for what is no MLModel or an unknown compute unit, or if Core ML cannot run the model.
    """
    if compute_unit not in _COREML_UNITS:
        message = f"Unknown compute unit {compute_unit!r}: use one of {', '.join(_COREML_UNITS)}."
        raise DeviceError(message)
    if not isinstance(mlmodel, ct.models.MLModel):  # notebooks are untyped
        message = (
            "measure() takes a coremltools MLModel, such as model.mlmodel or what plan.compress() returns, not a value "
            f"of type {type(mlmodel).__name__}."
        )
        raise DeviceError(message)
    if not is_mac():
        message = "Core ML runs on macOS only, so nothing can be measured here; use plan.estimate(...) instead."
        raise DeviceError(message)
    benchmarker = MLModelBenchmarker(mlmodel, device)
    try:
        with quiet(progress=False):
            benchmarker.compute_units = _COREML_UNITS[compute_unit]
            whole, infos = _run(_benchmark(benchmarker, inputs, iterations))
    except Exception as error:
        message = f"Core ML could not run the model with compute_unit={compute_unit!r}: {error}"
        raise DeviceError(message) from error
    machine = "this Mac" if device is None else device.name
    latency_ms = float(whole.statistics.median)
    return Measurement(machine, compute_unit, latency_ms, tuple(whole.samples), _ops_frame(infos))


async def _benchmark(
    benchmarker: MLModelBenchmarker, inputs: Mapping[str, np.ndarray] | None, iterations: int
) -> tuple[MLModelBenchmarker.Measurement, list[MLModelBenchmarker.OperationExecutionInfo]]:
    whole = await benchmarker.benchmark_predict(inputs, iterations=iterations, warmup=True)
    return whole, await benchmarker.benchmark_operation_execution(inputs, iterations=iterations)


def _run(coroutine: Any) -> Any:
    """Run a coroutine to its end, also inside a notebook, whose own loop is running already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def _ops_frame(infos: list[MLModelBenchmarker.OperationExecutionInfo]) -> pd.DataFrame:
    rows = {}
    for info in infos:
        usage, statistics = info.compute_device_usage, info.measurement.statistics
        if usage is not None:
            rows[_name(info.spec)] = {
                "unit": _unit_name(usage.preferred_compute_device),
                "supported": tuple(map(_unit_name, usage.supported_compute_devices)),
                "latency_ms": statistics.median if statistics else float("nan"),
            }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["unit", "supported", "latency_ms"]).rename_axis("op")


def _name(op: ct.proto.MIL_pb2.Operation) -> str:
    return str(op.attributes["name"].immediateValue.tensor.strings.values[0])


def _unit_name(device: object) -> str:
    return next((name for kind, name in _UNIT_NAMES if isinstance(device, kind)), type(device).__name__)
