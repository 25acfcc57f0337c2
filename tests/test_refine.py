"""Plans that were refined by measuring: never worse than what they began with, within budgets and pins, resumable."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import models
import talaria_nb as tnb
from recorded import trials_that_run
from talaria_nb.errors import EvaluationError, PlanError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEMES = tuple(tnb.Palettize(nbits) for nbits in (8, 6, 4, 3, 2, 1))


def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, 32, 32, generator=generator) for _ in range(2)]


def refined(cache: Path, plan: tnb.Model | tnb.Plan | None = None, **changed: Any) -> tnb.Refined:
    given: dict[str, Any] = {"budget": "4.5 bits", "schemes": SCHEMES, "cache": cache, "progress": False}
    return tnb.refine(plan or models.classifier(), changed.pop("data", images()), **given | changed)


def loss(plan: tnb.Plan, metric: str = "mse") -> float:
    """Measure a plan, and leave no trace of it with the model, which all tests share."""
    found = tnb.evaluate(plan, images(), metric).value
    plan.model.evaluations.pop(plan.key)
    return found


@pytest.mark.parametrize("budget", ["3.6 bits", "4.5 bits", "30 kB"])
def test_it_is_never_worse_than_what_it_began_with(tmp_path: Path, budget: str) -> None:
    model = models.classifier()
    found = tnb.allocate(model, budget, schemes=SCHEMES, progress=False)
    better = refined(tmp_path, found, budget=None, metric="kl")
    (kept,) = found.spent
    assert better.spent.keys() == found.spent.keys()
    assert better.spent[kept] <= kept.most
    estimate = better.estimate("A15")
    assert better.spent[kept] == (estimate.size_bytes if kept.metric == "size" else estimate.bits_per_weight)

    assert better.error == better.losses[-1] == pytest.approx(loss(better, "kl"), rel=1e-9)
    assert list(better.losses) == sorted(set(better.losses), reverse=True)
    uniform = tnb.Allocator(model, schemes=SCHEMES, progress=False).uniform().values()
    sizes = [(plan, plan.estimate("A15")) for plan in uniform]
    within = [
        plan
        for plan, each in sizes
        if (each.size_bytes if kept.metric == "size" else each.bits_per_weight) <= kept.most
    ]
    assert within
    for plan in (found, *within):
        assert better.losses[0] <= loss(plan, "kl") * (1 + 1e-9)


def test_it_says_what_is_known(tmp_path: Path) -> None:
    better = refined(tmp_path)
    assert (better.grade, better.optimal) == ("measured", False)
    assert np.isnan(better.gap)
    assert str(better.loss()) == f"{better.error:.4g} (measured: mse on the data that chose it)"
    assert better.evaluation is None, "that is for data which did not choose the plan"
    assert f"mse on the data that chose it {better.error:.4g} (measured" in repr(better)
    assert "above the best plan" not in repr(better)


def test_pins_and_what_is_alike_are_kept(tmp_path: Path) -> None:
    model = models.classifier()
    plan = refined(tmp_path, pins={"head": 8}, alike=["blocks"], budget="6 bits")
    blocks = tnb.Plan(model).set("blocks", tnb.Palettize(4)).schemes
    compressible = set(model.weights.loc[model.weights["compressible"], "name"])
    assert len({plan[name] for name in compressible if blocks[name] == tnb.Palettize(4)}) == 1
    assert next(scheme for name, scheme in plan.schemes.items() if "head_weight" in name) == tnb.Palettize(8)


class Echo(nn.Module):
    """Two layers that err alike and are added up, and two that err apart from each other."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.same, self.third, self.fourth = (nn.Linear(64, 64, bias=False) for _ in range(4))
        self.same.weight = nn.Parameter(self.one.weight + 1e-4 * torch.randn(64, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.one(x) + self.same(x), 1.2 * self.third(x), 1.2 * self.fourth(x)], 1)


@cache
def echo() -> tnb.Model:
    torch.manual_seed(0)
    return tnb.load(Echo().eval(), torch.zeros(1, 64), progress=False)


def test_it_finds_what_sums_do_not_see(tmp_path: Path) -> None:
    """Errors of two layers that are the same count four times together: one of them is to be better than sums say."""
    model, schemes = echo(), (tnb.Palettize(4), tnb.Palettize(2))
    data = [torch.randn(64, 64, generator=torch.Generator().manual_seed(0))]
    summed = tnb.sensitivity(model, data, method="full", schemes=schemes, cache=tmp_path, progress=False)
    given: dict[str, Any] = {"error": summed, "schemes": schemes, "progress": False}
    found = tnb.allocate(model, "3.1 bits", **given)
    better = tnb.refine(found, data, cache=tmp_path, **given)
    names = [name for name, scheme in found.schemes.items() if scheme == tnb.Palettize(2)]
    assert sorted(name.split("_")[1] for name in names) == ["one", "same"], "as sums have it"
    assert {scheme for name, scheme in better.schemes.items() if name in names} == set(schemes)

    every = [tnb.Plan(model).with_schemes(each) for each in product(schemes, repeat=4)]
    within = [plan for plan in every if plan.estimate("A15").bits_per_weight <= 3.1]
    least = min(tnb.evaluate(plan, data).value for plan in within)
    assert better.start == "the plan given"
    assert better.error == pytest.approx(least, rel=1e-9)
    assert better.error < 0.8 * better.losses[0]


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = refined(tmp_path / "whole")
    first = trials_that_run(monkeypatch, most=12)
    with pytest.raises(KeyboardInterrupt):
        refined(tmp_path / "cut")
    done = trials_that_run(monkeypatch)
    assert refined(tmp_path / "cut") == whole
    assert done
    assert not set(done) & set(first)
    assert len(set(done)) == len(done), "nothing is measured twice"
    done.clear()
    assert refined(tmp_path / "cut").losses == whole.losses
    assert not done


def test_any_executor_finds_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        there = refined(tmp_path / "there", executor=pool)
    here = refined(tmp_path / "here")
    assert (there.schemes, there.losses) == (here.schemes, here.losses)


class Folded(nn.Module):
    """One of its weights is computed, so it is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.wave = nn.Linear(64, 64), nn.Parameter(torch.randn(64, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + nn.functional.linear(x, self.wave.sin())


def test_weights_that_cannot_be_put_back_stay_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 64)
    model = tnb.load(Folded().eval(), x, progress=False)
    found = tnb.allocate(model, "10 bits", schemes=SCHEMES, progress=False)
    given: dict[str, Any] = {"data": [x], "budget": "10 bits"}
    with pytest.raises(EvaluationError, match=r"cannot be put back into the torch module.*Keep them at"):
        refined(tmp_path, found, **given)
    better = refined(tmp_path, model, **given)
    assert sorted(better.schemes.values(), key=repr) == [tnb.Float16(), tnb.Palettize(3)], "of 20 bits 16 are taken"
    assert tnb.evaluate(better, [x]).value == pytest.approx(better.error, rel=1e-9)


def test_plans_that_break_the_outputs_are_not_taken(tmp_path: Path) -> None:
    model = echo()
    data = [torch.randn(4, 64, generator=torch.Generator().manual_seed(0))]

    def metric(outputs: torch.Tensor, reference: torch.Tensor) -> float:
        moved = float((outputs - reference).square().mean())
        return moved if moved < limit else float("nan")

    given: dict[str, Any] = {"budget": "6.1 bits", "schemes": SCHEMES, "cache": tmp_path, "progress": False}
    limit = 1.0
    free = tnb.refine(model, data, metric=metric, **given)
    limit = free.losses[0] * (1 + 1e-6)  # of no start but the best, and of no plan that is worse
    assert tnb.refine(model, data, metric=metric, **given | {"cache": tmp_path / "broken"}).error <= free.losses[0]
    limit = 0.0
    with pytest.raises(EvaluationError, match="All plans to begin with make Echo return infinite values or NaN"):
        tnb.refine(model, data, metric=metric, **given | {"cache": tmp_path / "all broken"})


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"budget": None}, tnb.BudgetError, r'No budget is given: refine\(plan, data, budget="3.6 bits"\)'),
        ({"budget": "0.5 bits"}, tnb.BudgetError, "least that can be reached"),
        ({"budget": "5 ms"}, tnb.BudgetError, "needs a device"),
        ({"data": []}, EvaluationError, "data are empty"),
        ({"data": [torch.zeros(1, 5, 32, 32)]}, EvaluationError, "does not run on item 0 of the data"),
        ({"data": [torch.full((1, 3, 32, 32), torch.nan)]}, EvaluationError, "infinite values or NaN for item 0"),
        ({"metric": "accuracy"}, EvaluationError, "no metric 'accuracy'"),
        ({"pins": {"nowhere": 4}}, PlanError, "nowhere"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, changed: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        refined(tmp_path, **changed)
