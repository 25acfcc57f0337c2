"""Packages and programs of any size, priced at one."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import coremltools.optimize.coreml as cto
import pytest
import torch
from torch import nn

import talaria_nb as tnb
from packages import actual_bytes, saved
from talaria_nb.errors import LoadError
from talaria_nb.quiet import quiet

if TYPE_CHECKING:
    from pathlib import Path

    import coremltools as ct


PHONE = "iPhone 15 Pro"


class AnySize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x))).flatten(2).mean(2)


@cache
def flexible(kind: str, *, float32: bool = False) -> ct.models.MLModel:
    import coremltools as ct

    torch.manual_seed(0)
    shape: Any
    if kind == "range":
        shape = ct.Shape((1, 3, ct.RangeDim(32, 256, 64), ct.RangeDim(32, 256, 64)))
    else:
        shape = ct.EnumeratedShapes([(1, 3, 64, 64), (1, 3, 128, 128)], default=(1, 3, 128, 128))
    with quiet(progress=False):
        return ct.convert(
            torch.jit.trace(AnySize().eval(), torch.zeros(1, 3, 64, 64)),
            inputs=[ct.ImageType("x", shape=shape) if kind == "image" else ct.TensorType("x", shape=shape)],
            minimum_deployment_target=ct.target.iOS18,
            compute_precision=ct.precision.FLOAT32 if float32 else ct.precision.FLOAT16,
            skip_model_load=True,
        )


@pytest.mark.parametrize(("kind", "wanted"), [("range", True), ("enumerated", False)])
def test_a_range_of_sizes_is_a_finding_and_a_choice_of_sizes_is_none(kind: str, *, wanted: bool) -> None:
    model = tnb.load(flexible(kind), progress=False)
    found = model.findings[model.findings["kind"] == "range of shapes"]
    assert len(found) == wanted
    for ops in found["ops"]:
        assert set(ops) == set(model.ops["name"])


def input_shape(model: tnb.Model) -> tuple[int, ...]:
    [row] = model.program.inputs
    return model.program.values.shape[row]


@pytest.mark.parametrize(
    ("kind", "default"), [("range", (1, 3, 64, 64)), ("enumerated", (1, 3, 128, 128)), ("image", (1, 3, 128, 128))]
)
def test_flexible_shapes_are_priced_at_the_default_size_or_the_one_asked_for(
    tmp_path: Path, kind: str, default: tuple[int, ...]
) -> None:
    path = saved(flexible(kind), tmp_path)
    model = tnb.load(path, progress=False)
    assert input_shape(model) == default
    other = tnb.load(path, shapes={"x": (1, 3, 64, 64)}, progress=False)
    conv = other.ops[other.ops["op_type"] == "conv"].iloc[0]
    assert conv["output"] == "1×16×64×64"
    assert conv["flops"] == pytest.approx(2 * 16 * 64 * 64 * 27, rel=0.05)
    fixed = tnb.load(AnySize().eval(), torch.zeros(default), progress=False)
    flops = [ops.loc[ops["op_type"] == "conv", "flops"].tolist() for ops in (model.ops, fixed.ops)]
    assert flops[0] == flops[1]
    assert tnb.Plan(model).set("*", tnb.LinearQuantize("int8")).verify(progress=False)["match"].all()


def test_configs_of_a_fixed_size_fit_the_flexible_package(tmp_path: Path) -> None:
    path = saved(flexible("range"), tmp_path)
    plan = tnb.Plan(tnb.load(path, progress=False)).set("*", tnb.LinearQuantize("int8"))
    [(_, config)] = plan.optimization_configs()
    with quiet(progress=False):
        small = cto.linear_quantize_weights(flexible("range"), config)
    assert actual_bytes(small) == plan.estimate(PHONE).weight_file_bytes


def test_a_flexible_model_is_left_as_it_was() -> None:
    mlmodel = flexible("range")
    before = str(mlmodel._mil_program)
    assert input_shape(tnb.load(mlmodel, shapes={"x": (1, 3, 96, 96)}, progress=False)) == (1, 3, 96, 96)
    assert str(mlmodel._mil_program) == before


def test_sizes_of_a_torch_module_come_from_its_inputs() -> None:
    with pytest.raises(LoadError, match="function= and shapes= are for packages"):
        tnb.load(AnySize(), torch.zeros(1, 3, 64, 64), shapes={"x": (1, 3, 32, 32)})


def test_a_float32_package_stays_one_at_a_fixed_size(tmp_path: Path) -> None:
    model = tnb.load(saved(flexible("range", float32=True), tmp_path), progress=False)
    assert set(model.weights["dtype"]) == {"fp32"}


@pytest.mark.parametrize(
    ("kind", "shapes", "says"),
    [
        ("range", {"x": (1, 3, 512, 64)}, "512 is not within 32 to 256"),
        ("range", {"x": (1, 4, 64, 64)}, r"its fixed dimensions are \(1, 3, 'any', 'any'\)"),
        ("range", {"x": (3, 64, 64)}, "it has 4 dimensions"),
        ("range", {"x": (1, 3, 64, -1)}, "must be positive whole numbers"),
        ("range", {"y": (1, 3, 64, 64)}, "has no input 'y' of flexible shape; those with one: 'x'"),
        ("enumerated", {"x": (1, 3, 96, 96)}, r"it takes \(1, 3, 128, 128\) or \(1, 3, 64, 64\)"),
    ],
)
def test_a_size_that_the_package_does_not_take_is_refused(
    tmp_path: Path, kind: str, shapes: dict[str, tuple[int, ...]], says: str
) -> None:
    path = saved(flexible(kind), tmp_path)
    with pytest.raises(LoadError, match=says) as caught:
        tnb.load(path, shapes=shapes, progress=False)
    assert str(caught.value).isprintable()


def test_an_exported_program_of_any_size_is_priced_at_the_one_asked_for() -> None:
    sizes = {2: torch.export.Dim("height", min=32, max=256), 3: torch.export.Dim("width", min=32, max=256)}
    with quiet(progress=False):
        exported = torch.export.export(AnySize().eval(), (torch.zeros(1, 3, 64, 64),), dynamic_shapes={"x": sizes})
    before = str(exported.graph)
    model = tnb.load(exported, shapes={"x": (1, 3, 96, 96)}, progress=False)
    assert input_shape(model) == (1, 3, 96, 96)
    assert str(exported.graph) == before
    convs = model.ops[model.ops["op_type"] == "conv"]
    assert convs["module"].tolist() == ["first", "second"]
    assert all(source.startswith("test_flexible_shapes.py:") for source in convs["source"])
    with pytest.raises(LoadError, match="512 is not within 32 to 256"):
        tnb.load(exported, shapes={"x": (1, 3, 512, 96)}, progress=False)
