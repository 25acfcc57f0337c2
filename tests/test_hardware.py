"""Core ML does not run here, so coremltools' benchmarker works on stand-ins of what lies under it."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from coremltools.models.compute_device import MLCPUComputeDevice, MLNeuralEngineComputeDevice
from coremltools.models.compute_plan import (
    MLComputePlanCost,
    MLComputePlanDeviceUsage,
    MLModelStructure,
    MLModelStructureProgram,
    MLModelStructureProgramBlock,
    MLModelStructureProgramFunction,
    MLModelStructureProgramNamedValueType,
    MLModelStructureProgramOperation,
    MLModelStructureProgramValueType,
)
from coremltools.models.ml_program.experimental import perf_utils

import models
import talaria_nb as tnb
from talaria_nb.errors import DeviceError
from talaria_nb.frames import COLUMNS
from talaria_nb.hardware import measure

if TYPE_CHECKING:
    from coremltools.models import MLModel
    from coremltools.proto import MIL_pb2

NEURAL_ENGINE = object.__new__(MLNeuralEngineComputeDevice)  # its constructor wants a Mac
CPU = object.__new__(MLCPUComputeDevice)
DURATIONS_NS = (9_000_000, 2_000_000, 4_000_000, 3_000_000)
"""The first is the warm-up; from then on predictions take 2, 4, 3, 3, 3, … ms."""


def _structure(spec: MIL_pb2.Program) -> MLModelStructure:
    """Build what `MLModelStructure.load_from_path` returns for a program."""
    functions = {}
    for name, function in spec.functions.items():
        operations = [
            MLModelStructureProgramOperation(
                inputs={},
                operator_name=op.type,
                outputs=[
                    MLModelStructureProgramNamedValueType(out.name, MLModelStructureProgramValueType())
                    for out in op.outputs
                ],
                blocks=[],
                __proxy__=None,
            )
            for op in function.block_specializations[function.opset].operations
        ]
        functions[name] = MLModelStructureProgramFunction([], MLModelStructureProgramBlock([], operations, []))
    return MLModelStructure(neuralnetwork=None, program=MLModelStructureProgram(functions), pipeline=None)


@dataclass
class FakePlan:
    """Like `MLComputePlan`: convolutions on the Neural Engine with half of the time each, the rest on the CPU."""

    model_structure: MLModelStructure

    def get_compute_device_usage_for_mlprogram_operation(
        self, operation: MLModelStructureProgramOperation
    ) -> MLComputePlanDeviceUsage | None:
        if operation.operator_name == "const":
            return None
        preferred = NEURAL_ENGINE if operation.operator_name == "conv" else CPU
        return MLComputePlanDeviceUsage(preferred, [CPU, NEURAL_ENGINE])

    def get_estimated_cost_for_mlprogram_operation(
        self, operation: MLModelStructureProgramOperation
    ) -> MLComputePlanCost | None:
        return MLComputePlanCost(0.5) if operation.operator_name == "conv" else None


class FakeModel:
    """Like `MLModelAsyncWrapper`, without a Core ML to run on."""

    def __init__(self, spec: Any, *, fails: bool) -> None:
        self.spec, self.fails, self.inputs, self.last_predict_duration_in_nano_seconds = spec, fails, [], None

    async def load(self) -> None:
        if self.fails:
            message = "Error compiling model"
            raise RuntimeError(message)

    def make_state_if_needed(self) -> None:
        return None

    async def predict(self, inputs: dict[str, np.ndarray], state: object) -> dict[str, np.ndarray]:
        assert state is None
        self.inputs.append(inputs)
        self.last_predict_duration_in_nano_seconds = DURATIONS_NS[min(len(self.inputs), len(DURATIONS_NS)) - 1]
        return {}

    async def retrieve_compute_plan(self) -> FakePlan:
        return FakePlan(_structure(self.spec.mlProgram))


class FakeCoreML:
    """Stands where coremltools would hand the model over to Core ML."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.made: list[FakeModel] = []
        self.units: list[str] = []

    def from_spec_or_path(self, spec_or_path: Any, **options: Any) -> FakeModel:
        self.made.append(FakeModel(spec_or_path, fails=self.fails))
        self.units.append(options["compute_units"].name)
        return self.made[-1]


@pytest.fixture
def coreml(monkeypatch: pytest.MonkeyPatch) -> FakeCoreML:
    return _pretend_mac(monkeypatch, FakeCoreML())


def _pretend_mac(monkeypatch: pytest.MonkeyPatch, fake: FakeCoreML) -> FakeCoreML:
    monkeypatch.setattr("talaria_nb.hardware.is_mac", lambda: True)
    monkeypatch.setattr(perf_utils, "MLModelAsyncWrapper", fake)
    return fake


@pytest.fixture
def mlmodel() -> MLModel:
    return models.classifier().mlmodel


def test_the_median_leaves_the_warm_up_out(coreml: FakeCoreML, mlmodel: MLModel) -> None:
    found = measure(mlmodel, iterations=3)
    assert found.samples_ms == (2.0, 4.0, 3.0)
    assert found.latency_ms == 3.0
    assert (found.machine, found.compute_unit) == ("this Mac", "all")
    assert len(coreml.made) == 1


def test_every_op_of_the_program_says_where_it_runs(coreml: FakeCoreML, mlmodel: MLModel) -> None:
    ops = measure(mlmodel, iterations=3).ops
    program = models.classifier().program
    assert set(program.ops.name) <= set(ops.index)
    for name, op_type in zip(program.ops.name, program.ops.op_type, strict=True):
        is_conv = op_type == "conv"
        assert ops.loc[name, "unit"] == ("neural_engine" if is_conv else "cpu")
        assert ops.loc[name, "supported"] == ("cpu", "neural_engine")
        assert np.isnan(ops.loc[name, "latency_ms"]) != is_conv
    assert ops["latency_ms"].dropna().eq(1.5).all()  # half of the 3 ms of later predictions
    assert coreml.made


def test_the_compute_unit_reaches_core_ml(coreml: FakeCoreML, mlmodel: MLModel) -> None:
    assert measure(mlmodel, compute_unit="cpuAndNeuralEngine", iterations=1).compute_unit == "cpuAndNeuralEngine"
    assert coreml.units == ["CPU_AND_NE"]
    assert mlmodel.compute_unit.name == "ALL"


def test_inputs_are_passed_on(coreml: FakeCoreML, mlmodel: MLModel) -> None:
    image = np.zeros((1, 3, 32, 32), dtype=np.float32)
    measure(mlmodel, {"x": image}, iterations=2)
    assert all(given["x"] is image for given in coreml.made[0].inputs)


def test_it_works_inside_a_running_loop(coreml: FakeCoreML, mlmodel: MLModel) -> None:
    async def cell() -> float:
        return measure(mlmodel, iterations=3).latency_ms  # as notebooks do, whose loop is running

    with ThreadPoolExecutor(1) as kernel:  # this thread may have a loop of its own, of a browser test
        assert kernel.submit(asyncio.run, cell()).result() == 3.0
    assert coreml.made


def test_a_model_that_does_not_run_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch, mlmodel: MLModel) -> None:
    _pretend_mac(monkeypatch, FakeCoreML(fails=True))
    with pytest.raises(DeviceError, match=r"could not run the model with compute_unit='all': Error compiling model"):
        measure(mlmodel)


def test_an_unknown_compute_unit_names_the_known(mlmodel: MLModel) -> None:
    with pytest.raises(DeviceError, match="'gpu': use one of all, cpuAndNeuralEngine, cpuAndGPU, cpuOnly"):
        measure(mlmodel, compute_unit="gpu")


@pytest.mark.skipif(sys.platform == "darwin", reason="there it works")
def test_elsewhere_than_on_a_mac_it_says_so(mlmodel: MLModel) -> None:
    with pytest.raises(DeviceError, match=r"macOS only.*plan\.estimate"):
        measure(mlmodel)


def test_a_measurement_stands_beside_the_estimate() -> None:
    plan = tnb.Plan(models.classifier())
    conv = next(name for name, op_type in plan.model.ops[["name", "op_type"]].to_numpy() if op_type == "conv")
    ops = pd.DataFrame({"unit": ["gpu"], "supported": [("gpu", "cpu")], "latency_ms": [0.25]}, index=[conv])
    table = plan.table("iPhone 15 Pro", measured=tnb.Measurement("this Mac", "all", 1.0, (1.0,), ops)).set_index("name")
    assert (table.loc[conv, "measured_ms"], table.loc[conv, "measured_unit"]) == (0.25, "gpu")
    others = table.drop(index=conv)
    assert others["measured_ms"].isna().all()
    assert (others["measured_unit"] == "").all()
    assert table.columns.difference(plan.table("iPhone 15 Pro").columns).isin([*COLUMNS]).all()
