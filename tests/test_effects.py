"""What weights do together is composed from what each does alone, as it would pass through the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

import models
import talaria_nb as tnb
from recorded import trials_that_run
from talaria_nb.effects import Effect, Effects
from talaria_nb.metrics import loss
from talaria_nb.samples import sample

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from talaria_nb.metrics import Metric

OUTPUTS = [[torch.arange(12.0).reshape(4, 3) ** 2, torch.ones(2, 5)] for _ in range(6)]
ONE_BIT = tnb.Palettize(1)
IMAGES = [torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]


def of_gain(gain: float, residual: NDArray[np.float64], reference: NDArray[np.float64]) -> Effect:
    change = (gain - 1) * reference + residual
    scale = float(np.abs(change).max())
    loss = float((change**2).mean())
    return Effect((change / scale).astype(np.float16), scale, np.array([gain - 1]), loss, loss)


def test_what_comes_later_does_to_changes_what_it_does_to_the_outputs() -> None:
    outputs = [[torch.tensor([[1.0, -1.0, 1.0, -1.0]])]]
    kept = sample(outputs, 100)
    reference = kept.of(0, outputs[0])
    residual = np.array([0.5, 0.5, 0.5, 0.5])
    early, late = of_gain(1.0, residual, reference), of_gain(0.5, np.zeros(4), reference)
    alone = np.array([[0.0, early.loss], [0.0, late.loss]])

    def expected(result: NDArray[np.float64]) -> float:
        return float(((result - reference) ** 2).mean())

    in_order = Effects("mse", kept, reference, alone, {0: [early], 1: [late]})
    assert in_order.loss([1, 1]) == pytest.approx(expected(0.5 * (reference + residual)), rel=1e-3)
    reversed_ = Effects("mse", kept, reference, alone, {1: [late], 0: [early]})
    assert reversed_.loss([1, 1]) == pytest.approx(expected(0.5 * reference + residual), rel=1e-3)
    assert in_order.loss([1, 0]) == pytest.approx(early.loss, rel=1e-3)
    assert in_order.loss([0, 0]) == 0


def test_a_scheme_that_was_not_measured_is_like_the_nearest_at_its_own_loss() -> None:
    outputs = [[torch.tensor([[1.0, -1.0]])]]
    kept = sample(outputs, 100)
    reference = kept.of(0, outputs[0])
    small, large = (of_gain(1.0, np.array([size, size]), reference) for size in (0.1, 10.0))
    effects = Effects("mse", kept, reference, np.array([[0.0, 4 * small.loss]]), {0: [small, large]})
    assert effects.loss([1]) == pytest.approx(4 * small.loss, rel=1e-3)


def test_what_a_sample_misses_is_made_up_for_by_the_losses_of_single_weights() -> None:
    outputs = [[torch.tensor([[1.0, -1.0]])]]
    kept = sample(outputs, 100)
    reference = kept.of(0, outputs[0])
    seen = of_gain(1.0, np.array([0.5, 0.5]), reference)
    more = Effect(
        seen.change, seen.scale, seen.gain, 3 * seen.loss, seen.sampled
    )  # of all outputs, thrice the sample's
    effects = Effects("mse", kept, reference, np.full((2, 1), more.loss), {0: [more], 1: [more]})
    assert effects.loss([0, 0]) == pytest.approx(3 * 4 * seen.loss, rel=1e-3)


@pytest.mark.parametrize("metric", ["mse", "cosine", "kl"])
def test_all_that_is_kept_has_the_loss_of_all_outputs(metric: str) -> None:
    moved = [
        [tensor + torch.linspace(0, 1, tensor.numel()).reshape(tensor.shape) for tensor in each] for each in OUTPUTS
    ]
    everything = sample(OUTPUTS, 10**6)
    flat = [np.concatenate([everything.of(item, each) for item, each in enumerate(all_)]) for all_ in (moved, OUTPUTS)]
    expected = np.mean([loss(metric, mine, original, {}) for mine, original in zip(moved, OUTPUTS, strict=True)])
    assert everything.loss(metric, *flat) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("numbers", [1, 8, 40])
def test_a_sample_is_small_and_has_vectors_of_every_output(numbers: int) -> None:
    kept = sample(OUTPUTS, numbers)
    size = sum(len(kept.of(item, each)) for item, each in enumerate(OUTPUTS))
    assert size <= max(numbers, 3 + 5)
    assert sorted(np.concatenate([at.reshape(-1) for at in kept.kinds.values()])) == list(range(size))
    assert kept.kinds.keys() == {(0, 3), (1, 5)}


def found(cache: Path, metric: Metric) -> tnb.Sensitivity:
    schemes = tnb.Palettize(2), tnb.Palettize(3)
    return tnb.sensitivity(models.classifier(), IMAGES, metric=metric, schemes=schemes, cache=cache, progress=False)


def test_one_weight_alone_loses_what_was_measured_of_it(tmp_path: Path) -> None:
    model, sensitivity = models.classifier(), found(tmp_path, "kl")
    for name in model.weights.loc[model.weights["compressible"], "name"]:
        plan = tnb.Plan(model).set([name], tnb.Palettize(3))
        assert sensitivity.total(plan) == pytest.approx(tnb.evaluate(plan, IMAGES, "kl").value, rel=1e-6)


def test_of_broken_outputs_it_is_nearer_to_the_truth_than_a_sum(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(7)))
    for layer in layers:
        nn.init.normal_(layer.weight, std=1 / 8)
    model = tnb.load(layers, torch.zeros(1, 64), progress=False)
    data = [torch.randn(32, 64)]
    sensitivity = tnb.sensitivity(model, data, metric="cosine", schemes=[ONE_BIT], cache=tmp_path, progress=False)
    names = model.weights.loc[model.weights["compressible"], "name"].tolist()
    measured = tnb.evaluate(tnb.Plan(model).set(names, ONE_BIT), data, "cosine").value
    alone = sum(tnb.evaluate(tnb.Plan(model).set([name], ONE_BIT), data, "cosine").value for name in names)
    composed = sensitivity.total(tnb.Plan(model).set(names, ONE_BIT))
    assert alone > 1.5 * measured, "sums of large losses are too large, or this shows nothing"
    assert composed == pytest.approx(measured, rel=0.25)


def test_it_is_kept_with_the_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.classifier()
    plan = tnb.Plan(model).set("*", tnb.Palettize(2))
    first = found(tmp_path, "kl").total(plan)
    done = trials_that_run(monkeypatch)
    assert found(tmp_path, "kl").total(plan) == first
    assert not done


def test_losses_of_a_users_own_metric_are_added_up(tmp_path: Path) -> None:
    def furthest(outputs: torch.Tensor, reference: torch.Tensor) -> float:
        return float((outputs - reference).abs().max())

    model, sensitivity = models.classifier(), found(tmp_path, furthest)
    names = model.weights.loc[model.weights["compressible"], "name"].tolist()
    plan = tnb.Plan(model).set(names, tnb.Palettize(2))
    columns = [sensitivity.schemes.index(scheme) for scheme in plan.scheme_of_weight]
    assert sensitivity.total(plan) == pytest.approx(sensitivity.error[np.arange(len(columns)), columns].sum())
