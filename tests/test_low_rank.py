"""A product of two thin weights costs what is said beforehand, and is the nearest there is to the weight."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import models
import talaria_nb as tnb
from talaria_nb.errors import EvaluationError, PlanError
from talaria_nb.low_rank import MODEL

IMAGE = torch.zeros(1, 48, 8, 8)


class Mixed(nn.Module):
    """A strided 1×1 convolution with its batch norm, a padded one, one with a bias alone, and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(48, 64, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.padded = nn.Conv2d(64, 96, 1, padding=1)
        self.wide = nn.Conv2d(96, 32, 3)
        self.hidden = nn.Linear(32, 128)
        self.last = nn.Linear(128, 40, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.padded(torch.relu(self.norm(self.narrow(x)))))
        return self.last(torch.relu(self.hidden(self.wide(x).mean((2, 3)))))


@cache
def model() -> tnb.Model:
    torch.manual_seed(0)
    module = Mixed().eval()
    module.norm.running_var.uniform_(0.5, 2)
    return tnb.load(module, IMAGE, progress=False)


@pytest.mark.parametrize(("rank", "scheme"), [(20, tnb.Float16()), (6, tnb.Palettize(4))])
def test_the_rewritten_module_loads_with_what_was_said_of_it(rank: int, scheme: tnb.Scheme) -> None:
    low, plan = tnb.LowRank(rank), tnb.Plan(model()).set("*", scheme)
    said = low.what_if(plan, "*", "A15")
    assert len(said) == 5
    rewritten = tnb.load(low.rewrite(model(), "*"), IMAGE, progress=False)
    now, then = plan.estimate("A15"), tnb.Plan(rewritten).set("*", scheme).estimate("A15")
    row = said.loc[MODEL]
    assert (row["bytes"], row["bytes_after"]) == (now.weight_file_bytes, then.weight_file_bytes)
    assert row["flops_after"] == rewritten.ops["flops"].sum() < row["flops"] == model().ops["flops"].sum()
    assert row["latency_ms"] == pytest.approx(now.latency_ms)
    assert row["latency_ms_after"] == pytest.approx(then.latency_ms)
    assert row["change_low_ms"] < row["change_ms"] == pytest.approx(then.latency_ms - now.latency_ms)
    assert row["change_ms"] < row["change_high_ms"]


def test_the_error_is_that_of_the_nearest_product() -> None:
    low = tnb.LowRank(12)
    said = low.what_if(model(), "*", "A15")
    rewritten = tnb.load(low.rewrite(model(), "*"), IMAGE, progress=False)
    for weight, noise in said["noise_to_signal"].iloc[:-1].items():
        values = model().weight_value(str(weight)).astype(np.float64).squeeze()
        factors = [
            rewritten.weight_value(name).astype(np.float64).squeeze()
            for name, shape in zip(rewritten.weights["name"], rewritten.program.weights.shape, strict=True)
            if shape[:2] in {(12, values.shape[1]), (len(values), 12)}
        ]
        assert len(factors) == 2
        assert ((values - factors[1] @ factors[0]) ** 2).sum() / (values**2).sum() == pytest.approx(noise, rel=1e-3)
        assert noise == pytest.approx((np.linalg.svd(values)[1][12:] ** 2).sum() / (values**2).sum())
    assert (said["sqnr_db"] > 0).all()


def test_a_weight_of_that_rank_loses_nothing() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64)).eval()
    with torch.no_grad():
        module[0].weight.copy_(torch.randn(96, 5) @ torch.randn(5, 64))
    loaded = tnb.load(module, torch.zeros(1, 64), progress=False)
    x = torch.randn(7, 64)
    rewritten = tnb.LowRank(5).rewrite(loaded, "0")
    torch.testing.assert_close(rewritten(x), module(x), rtol=0.01, atol=0.01)
    assert isinstance(rewritten[0], nn.Sequential)
    assert isinstance(module[0], nn.Linear)
    assert tnb.LowRank(5).what_if(loaded, "0", "A15")["noise_to_signal"].max() < 1e-5


def test_what_cannot_be_such_a_product_is_named() -> None:
    with pytest.raises(PlanError, match="whole number of at least 1, not 0"):
        tnb.LowRank(0)
    [wide] = [name for name in model().weights["name"] if "wide" in name]
    with pytest.raises(PlanError, match=f"{wide} cannot be a product of rank 4: it is read by conv, not by a linear"):
        tnb.LowRank(4).what_if(model(), wide, "A15")
    with pytest.raises(PlanError, match="it has 40 × 128 channels, and its rank is 40 at most already"):
        tnb.LowRank(40).rewrite(model(), "last")
    with pytest.raises(PlanError, match="Did you mean"):
        tnb.LowRank(4).what_if(model(), "lst", "A15")
    with pytest.raises(PlanError, match="it is read by"):
        tnb.LowRank(4).rewrite(models.tied(), "embedding")


def test_a_package_has_costs_but_no_module(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(tmp_path_factory.mktemp("package") / "model.mlpackage")
    model().mlmodel.save(path)
    package = tnb.load(path, progress=False)
    said = tnb.LowRank(12).what_if(package, "*", "A15")
    assert said.loc[MODEL, "bytes_after"] == tnb.LowRank(12).what_if(model(), "*", "A15").loc[MODEL, "bytes_after"]
    with pytest.raises(EvaluationError, match="not loaded from a torch module"):
        tnb.LowRank(12).rewrite(package, "*")
