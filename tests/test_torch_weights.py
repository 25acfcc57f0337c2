"""Plans in torch: a module with the planned values converts to the weights that the plan stores."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import models
import talaria_nb as tnb
from talaria_nb.distortion import dequantized
from talaria_nb.errors import EvaluationError
from talaria_nb.torch_weights import find_link, find_links, planned_module


class Recurrent(nn.Module):
    """Core ML orders the gates of an LSTM in its own way, and takes a GRU apart."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(48, 64, 2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(128, 48, batch_first=True)
        self.attention = nn.MultiheadAttention(48, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.gru(self.lstm(x)[0])[0]
        return self.attention(y, y, y, need_weights=False)[0]


class Positions(nn.Module):
    """Half of a table is used, another parameter is read transposed, and a batch norm follows a transposed conv."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(128, 64)
        self.register_buffer("index", torch.arange(8, 72))
        self.mix = nn.Parameter(torch.randn(64, 64) * 0.1)
        self.up = nn.ConvTranspose1d(64, 48, 2, stride=2)
        self.norm = nn.BatchNorm1d(48)
        nn.init.uniform_(self.norm.weight, -1, 2)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = (x + self.positions(self.index)) @ self.mix.T
        return self.norm(self.up(y.transpose(1, 2)))


@cache
def recurrent() -> tnb.Model:
    torch.manual_seed(0)
    return tnb.load(Recurrent().eval(), torch.zeros(1, 8, 48), progress=False)


@cache
def positions() -> tnb.Model:
    torch.manual_seed(0)
    return tnb.load(Positions().eval(), torch.zeros(1, 64, 64), progress=False)


INPUTS = {
    "classifier": (models.classifier, torch.zeros(1, 3, 32, 32)),
    "unet": (models.unet, torch.zeros(1, 3, 32, 32)),
    "tied": (models.tied, torch.zeros(1, 8, dtype=torch.long)),
    "recurrent": (recurrent, torch.zeros(1, 8, 48)),
    "positions": (positions, torch.zeros(1, 64, 64)),
}


def compressed(model: tnb.Model) -> tnb.Plan:
    """Every linked weight at 3 bits; one table a weight, so that equal rows stay equal."""
    plan = tnb.Plan(model)
    links = find_links(model).links
    return plan.set(
        [name for name in model.weights[model.weights["compressible"]]["name"] if name in links], tnb.Palettize(3)
    )


@pytest.mark.parametrize("name", INPUTS)
def test_a_module_with_the_planned_values_converts_to_what_the_plan_stores(name: str) -> None:
    load, inputs = INPUTS[name]
    model = load()
    plan = compressed(model)
    again = tnb.load(planned_module(plan), inputs, progress=False)
    assert again.program.weights.name == model.program.weights.name
    chosen = [weight for weight, scheme in plan.schemes.items() if scheme != tnb.Float16()]
    assert len(chosen) >= len(model.weights[model.weights["compressible"]]) - 1
    for weight in chosen:
        axes = model.program.weights.channel_axes[model.program.weight_row[weight]]
        planned = dequantized(model.weight_value(weight), plan[weight], channel_axes=axes)
        np.testing.assert_allclose(again.weight_value(weight), planned, rtol=2**-8, atol=2**-14, err_msg=weight)


def test_a_plan_of_float16_is_the_module_itself() -> None:
    model = models.classifier()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(planned_module(tnb.Plan(model))(x), model.module(x))


def test_the_users_module_stays_as_it_is_and_shares_what_does_not_change() -> None:
    model = models.classifier()
    assert model.module is not None
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    planned = planned_module(tnb.Plan(model).set("head", tnb.Palettize(1)))
    assert planned.stem.weight is model.module.stem.weight
    assert not torch.equal(planned.head.weight, model.module.head.weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())


def test_a_tied_parameter_changes_everywhere() -> None:
    model = models.tied()
    planned = planned_module(tnb.Plan(model).set("*embedding*", tnb.Palettize(2)))
    assert len(planned.embedding.weight.unique()) == 4


def test_a_row_that_stands_there_twice_gets_the_mean() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(4, 8)).astype(np.float32)
    link = find_link(table[[2, 0, 2]].astype(np.float16), table, "table")
    assert link is not None
    changed = table.copy()
    link.put(changed, np.array([[1.0], [5.0], [3.0]], dtype=np.float32) * np.ones((3, 8), np.float32))
    np.testing.assert_array_equal(changed, [[5.0] * 8, table[1], [2.0] * 8, table[3]])


def test_what_no_parameter_explains_has_no_link() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(8, 8)).astype(np.float32)
    assert find_link((table @ table).astype(np.float16), table, "table") is None


def test_weights_without_a_parameter_are_named() -> None:
    model = models.classifier()
    other = nn.Sequential(nn.Conv2d(3, 64, 3))
    stranger = tnb.Model(model.program, model.mlmodel, model.source_map, other)
    with pytest.raises(EvaluationError, match=r"head.* torch parameter.* tnb\.Float16"):
        planned_module(tnb.Plan(stranger).set("head", tnb.Palettize(4)))


def test_a_package_cannot_be_run() -> None:
    model = models.classifier()
    package = tnb.load(model.mlmodel)
    with pytest.raises(EvaluationError, match="not loaded from a torch module"):
        planned_module(tnb.Plan(package))
