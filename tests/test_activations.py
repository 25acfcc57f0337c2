"""int8 activations: what is legal, and what coremltools makes of them.

coremltools calibrates with `MLModel.predict`, which needs a Mac: a stand-in of exactly its shape takes its place.
"""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch
from torch import nn

import models
import talaria_nb as tnb
from talaria_nb.errors import ExportError, SchemeError
from talaria_nb.quiet import quiet
from talaria_nb.read import mil_function

Sample = dict[str, Any]


class FakePredict:
    """What `MLModel.predict` returns: every output by name, here as large as the largest number that went in."""

    def __init__(self, **overrides: float) -> None:
        self.overrides = overrides

    def __call__(self, mlmodel: ct.models.MLModel, data: Sample, state: object = None) -> dict[str, np.ndarray]:
        assert state is None
        largest = max(float(np.abs(value).max()) for value in data.values())
        outputs = [output.name for output in mlmodel.get_spec().description.output]
        return {
            name: np.array([-1, 0.5, 1], dtype=np.float32) * self.overrides.get(name, 3 * largest) for name in outputs
        }


def pretend_mac(monkeypatch: pytest.MonkeyPatch, **overrides: float) -> None:
    fake = FakePredict(**overrides)
    monkeypatch.setattr("talaria_nb.activations.is_mac", lambda: True)
    monkeypatch.setattr(ct.models.MLModel, "predict", lambda self, data, state=None: fake(self, data, state))


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_mac(monkeypatch)


def sample(largest: float = 1.0) -> Sample:
    return {"x": np.linspace(-largest, largest, 3 * 32 * 32, dtype=np.float32).reshape(1, 3, 32, 32)}


def w8a8() -> tnb.Plan:
    """Plan with int8 activations for some ops, and other schemes beside int8."""
    plan = tnb.Plan(models.unet()).set("*", tnb.LinearQuantize("int8")).set("up", tnb.Palettize(4, mode="uniform"))
    return plan.set_activations(["middle", "down"], "int8")


def quantized(mlmodel: ct.models.MLModel) -> list[tuple[str, str, float]]:
    """List every op that rounds to 8 bits: what it reads, its type and its scale."""
    return [
        (op.inputs["input"].name, op.op_type, float(op.scale.val))
        for op in mil_function(mlmodel).operations
        if op.op_type == "quantize"
    ]


@pytest.mark.usefixtures("mac")
def test_configs_yaml_source_and_compress_all_make_the_planned_model() -> None:
    plan = tnb.Plan(models.classifier()).set("*", tnb.LinearQuantize("int8")).set("head", tnb.Palettize(4))
    plan = plan.set_activations("*", "int8").set_activations("stem", None)  # of one type of op all, of another some
    samples = [sample()]
    compressed = plan.compress(sample_data=samples)
    assert len(quantized(compressed)) >= len(plan.activations)
    table = plan.verify(compressed)
    assert not table["finding"].any(), table[table["finding"] != ""]
    assert list(table.index[len(plan.schemes) : -1]) == list(plan.activations)
    assert f"{len(plan.activations)} ops with int8 activations" in table.attrs["verdict"]

    (first, config), *rest = plan.optimization_configs()
    assert first == "linear_quantize_activations"
    by_hand = [cto.linear_quantize_activations(plan.model.mlmodel, config, samples)]
    (name, text), *_ = plan.configs_yaml()
    assert name == first
    read = cto.OptimizationConfig.from_yaml(io.StringIO(text))
    by_yaml = [cto.linear_quantize_activations(plan.model.mlmodel, read, samples)]
    for step in rest:
        by_hand.append(step.apply(by_hand[-1]))
        by_yaml.append(step.apply(by_yaml[-1]))
    namespace: dict[str, Any] = {}
    exec(plan.to_python(), namespace)  # noqa: S102 - running it is the test
    by_source = namespace["compress"](plan.model.mlmodel, samples)
    for made in (by_hand[-1], by_yaml[-1], by_source):
        assert quantized(made) == quantized(compressed)
    assert not plan.verify(by_source)["finding"].any()
    by_apply = plan.optimization_configs()[0].apply(plan.model.mlmodel, samples)
    assert quantized(by_apply) == quantized(by_hand[0])


def test_types_of_which_every_op_is_int8_take_one_rule() -> None:
    plan = tnb.Plan(models.unet()).set_activations("*", "int8")
    [(_, config)] = plan.optimization_configs()
    assert list(config.op_type_configs) == ["conv"]
    assert not config.op_name_configs
    [(_, named)] = plan.optimization_configs(explicit=True)
    assert list(named.op_name_configs) == list(plan.activations)
    [(_, some)] = w8a8().set("*", tnb.Float16()).optimization_configs()
    assert list(some.op_name_configs) == list(w8a8().activations)


def test_ranges_are_those_of_all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_mac(monkeypatch)
    one = quantized(w8a8().compress(sample_data=[sample(2.0)]))
    for order in ([2.0, 0.5], [0.5, 2.0]):
        assert quantized(w8a8().compress(sample_data=[sample(largest) for largest in order])) == one


def test_a_tensor_that_was_zero_throughout_has_a_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_mac(monkeypatch, relu_1_cast_fp16=0.0)
    scales = {read: scale for read, _, scale in quantized(w8a8().compress(sample_data=[sample()]))}
    assert scales["relu_1_cast_fp16"] == 1.0
    assert all(scale > 0 for scale in scales.values())


def test_a_tensor_beyond_float16_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_mac(monkeypatch, relu_1_cast_fp16=1e5)
    with pytest.raises(ExportError, match=r"relu_1_cast_fp16, which conv2d_2_cast_fp16 reads, goes from .* float16"):
        w8a8().compress(sample_data=[sample()])


@pytest.mark.usefixtures("mac")
def test_verify_finds_an_op_left_in_float() -> None:
    compressed = w8a8().compress(sample_data=[sample()])
    table = w8a8().set_activations("leave", "int8").verify(compressed)
    [wrong] = table.index[table["finding"] != ""]
    assert wrong in set(w8a8().set_activations("leave", "int8").activations) - set(w8a8().activations)


@pytest.mark.usefixtures("mac")
def test_samples_and_model_are_left_as_they_were() -> None:
    given = sample()
    before = given["x"].copy()
    plan = w8a8()
    plan.compress(sample_data=[given])
    assert list(given) == ["x"]
    np.testing.assert_array_equal(given["x"], before)
    assert not quantized(plan.model.mlmodel)


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (None, "give sample_data"),
        ([], "give sample_data"),
        (sample(), "give sample_data"),
        ([sample()["x"]], r"sample_data\[0\] must be a dict"),
        ([sample(), {"xx": sample()["x"]}], r"sample_data\[1\] names 'xx', .* Did you mean 'x'"),
        ([{}], r"sample_data\[0\] lacks the input 'x'"),
        ([{"x": np.zeros((1, 3, 16, 16))}], r"shape \(1, 3, 16, 16\); the model takes \(1, 3, 32, 32\)"),
        ([{"x": np.full((1, 3, 32, 32), np.nan)}], "not finite"),
        ([{"x": "photo.png"}], "array of numbers"),
    ],
)
def test_samples_that_do_not_fit_are_answered_in_a_sentence(samples: Any, says: str) -> None:
    with pytest.raises(ExportError, match=says):
        w8a8().compress(sample_data=samples)


def test_without_a_mac_there_is_one_sentence() -> None:
    with pytest.raises(ExportError, match="Core ML runs on macOS only"):
        w8a8().compress(sample_data=[sample()])
    with pytest.raises(ExportError, match="Core ML runs on macOS only"):
        w8a8().optimization_configs()[0].apply(models.unet().mlmodel, [sample()])


class Sums(nn.Module):
    """Sums of whole numbers and of floats, and a product of what is also an output."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, n: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y = self.first(x)
        return y, self.second(y), n + n.flip(0)


@cache
def float32_sums() -> tnb.Model:
    """Load a package whose outputs are read inside; converted at float16, they would be casts."""
    example = (torch.zeros(1, 8), torch.zeros(4, dtype=torch.int32))
    with quiet(progress=False):
        program = torch.export.export(Sums().eval(), example).run_decompositions({})
        mlmodel = ct.convert(program, compute_precision=ct.precision.FLOAT32, minimum_deployment_target=ct.target.iOS17)
    return tnb.load(mlmodel, progress=False)


@pytest.mark.parametrize(("op_type", "says"), [("add", "whole numbers"), ("linear", "an output of the model")])
def test_what_has_no_range_is_refused(op_type: str, says: str) -> None:
    ops = float32_sums().ops
    *_, last = ops["name"][ops["op_type"] == op_type]
    with pytest.raises(SchemeError, match=says):
        tnb.Plan(float32_sums()).set_activations(last, "int8")
