"""What int8 activations add to a package, against what coremltools writes: whole packages, to 0.01 %."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import coremltools as ct
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import models
import talaria_nb as tnb
from synthetic import Builder
from talaria_nb.activation_legality import activation_refusals
from talaria_nb.errors import SchemeError
from talaria_nb.legality import refused
from talaria_nb.subjects import subject
from test_sizes import PACKAGE_TOLERANCE, PHONE, loaded

SCHEMES = (tnb.Float16(), tnb.LinearQuantize("int8"), tnb.Palettize(4, mode="uniform"), tnb.Prune(0.5))


@pytest.fixture(autouse=True)
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for Core ML: every tensor has a range of its own."""

    def predict(mlmodel: ct.models.MLModel, data: dict[str, Any], state: object = None) -> dict[str, np.ndarray]:
        assert data
        assert state is None
        names = [output.name for output in mlmodel.get_spec().description.output]
        largest = {name: 1 + crc32(name.encode()) % 1000 / 100 for name in names}
        return {name: np.array([-largest[name], largest[name]], dtype=np.float32) for name in names}

    monkeypatch.setattr("talaria_nb.activations.is_mac", lambda: True)
    monkeypatch.setattr(ct.models.MLModel, "predict", predict)


class Branches(nn.Module):
    """What the rules tell apart: sums, differences, shared tensors, functions before and behind other readers."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 32, 3, padding=1)
        self.one, self.two, self.three, self.four = (nn.Conv2d(32, 32, 3, padding=1) for _ in range(4))
        self.head = nn.Linear(32, 10)
        self.last = nn.Linear(10, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.enter(x)
        x = x + self.one(functional.relu(x))
        y = x + self.two(functional.relu(self.three(functional.relu(x))))
        y = functional.leaky_relu(self.two(functional.avg_pool2d(y, 2)) + functional.avg_pool2d(x, 2))
        y = functional.relu(y - self.three(y))
        y = functional.relu(y + y)
        y = torch.sigmoid(self.four(y)) * y
        t = self.head(functional.relu6(self.one(y) + y).mean((2, 3)))
        return torch.tanh(t), self.last(functional.gelu(t)) + 1.0


class Outputs(nn.Module):
    """One output is read inside, another is what an activation function makes of a layer that more ops read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.first(x)
        y = torch.relu(self.second(torch.tanh(x)))
        return x, y, self.third(torch.sin(y))


@cache
def branches() -> tnb.Model:
    torch.manual_seed(0)
    return tnb.load(Branches().eval(), torch.zeros(1, 3, 16, 16), progress=False)


def model(number: int) -> tnb.Model:
    """Return one of the models, the richest more often than others."""
    others = [models.classifier, lambda: models.unet("iOS17"), lambda: loaded("mixed", "iOS26", "fp16"), models.tied]
    return others[number // 2 % len(others)]() if number % 2 else branches()


def random_plan(of: tnb.Model, rng: np.random.Generator) -> tnb.Plan:
    chosen = []
    for row in range(len(of.program.weights)):
        legal = [scheme for scheme in SCHEMES if refused(scheme, subject(of.program, row)) is None]
        chosen.append(legal[int(rng.integers(len(legal)))])
    plan = tnb.Plan(of).with_schemes(chosen)
    every = list(plan.set_activations("*", "int8").activations)
    some = rng.permutation(every)[: int(rng.integers(1, len(every) + 1))].tolist()
    return plan.set_activations(some, "int8")


def check(plan: tnb.Plan) -> None:
    inputs = plan.model.mlmodel.get_spec().description.input
    sample = {each.name: np.zeros(tuple(each.type.multiArrayType.shape), dtype=np.float32) for each in inputs}
    compressed = plan.compress(sample_data=[sample], progress=False)
    package = sum(file.stat().st_size for file in Path(compressed.package_path).rglob("*") if file.is_file())
    assert abs(plan.estimate(PHONE).size_bytes - package) <= PACKAGE_TOLERANCE * package


@pytest.mark.parametrize("seed", range(8))
def test_a_package_with_int8_activations_is_predicted(seed: int) -> None:
    check(random_plan(model(seed), np.random.default_rng(seed)))


@pytest.mark.sizes
@pytest.mark.parametrize("seed", range(8, 108))
def test_many_packages_with_int8_activations_are_predicted(seed: int) -> None:
    check(random_plan(model(seed), np.random.default_rng(seed)))


def test_int8_activations_alone_change_the_size() -> None:
    plain = tnb.Plan(models.classifier())
    check(plain.set_activations("*", "int8"))
    assert plain.set_activations("*", "int8").estimate(PHONE).size_bytes > plain.estimate(PHONE).size_bytes


def test_what_coremltools_fails_at_is_refused() -> None:
    torch.manual_seed(0)
    written = tnb.load(Outputs().eval(), torch.zeros(1, 8), progress=False)
    first, second, last = written.ops["name"][written.ops["op_type"] == "linear"]
    for each in (first, second):
        with pytest.raises(SchemeError, match="writes an output of the model that other ops read"):
            tnb.Plan(written).set_activations(each, "int8")
    check(tnb.Plan(written).set_activations(last, "int8"))

    looped = loaded("recurrent", "iOS18", "fp16")
    inside = looped.ops["name"][looped.ops["op_type"] == "linear"].iloc[0]
    with pytest.raises(SchemeError, match="loops or branches"):
        tnb.Plan(looped).set_activations(inside, "int8")

    wide = Builder()
    x = wide.input((1, 8), "fp32")
    wide.op("linear", {"x": x, "weight": wide.weight((8, 8), "fp32")}, (1, 8), dtype="fp32")
    assert "float32" in str(activation_refusals(wide.program(), [0])[0])
