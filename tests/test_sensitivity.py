"""Sensitivities are losses that were measured, wherever they ran and however often they were interrupted."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import models
import talaria_nb as tnb
from recorded import trials_that_run
from talaria_nb import loss_curves
from talaria_nb.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEMES = (tnb.Palettize(4), tnb.Palettize(2), tnb.LinearQuantize("int8"))


def images(count: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, 32, 32, generator=generator) for _ in range(count)]


def find(cache: Path, **changed: Any) -> tnb.Sensitivity:
    given: dict[str, Any] = {"data": images(), "schemes": SCHEMES, "cache": cache, "progress": False}
    return tnb.sensitivity(models.classifier(), **given | changed)


def test_full_is_what_evaluate_measures_of_one_weight(tmp_path: Path) -> None:
    model = models.classifier()
    found = find(tmp_path, method="full", metric="kl")
    compressible = np.flatnonzero(model.weights["compressible"]).tolist()
    for row, column in [(compressible[0], 1), (compressible[1], 2), (compressible[-1], 3)]:
        plan = tnb.Plan(model).set([found.weights[row]], found.schemes[column])
        measured = tnb.evaluate(plan, images(), "kl")
        assert found.error[row, column] == pytest.approx(measured.value, rel=1e-9)
        assert found.total(plan) == found.error[row, column]
    assert (found.error[:, 0] == 0).all()
    assert found.total(tnb.Plan(model)) == 0


@pytest.mark.parametrize("metric", ["mse", "cosine", "kl"])
@pytest.mark.parametrize("method", ["widths", "one_width", "fisher"])
def test_the_quick_methods_are_near_the_full_one(tmp_path: Path, metric: str, method: str) -> None:
    full = find(tmp_path, method="full", metric=metric).error
    quick = find(tmp_path, method=method, metric=metric).error
    known = full > 0
    assert np.array_equal(np.isnan(full), np.isnan(quick))
    assert 0.7 < np.median(quick[known] / full[known]) < 1.4
    ranks = [np.argsort(np.argsort(each[known])) for each in (full, quick)]
    assert np.corrcoef(*ranks)[0, 1] > 0.95


def test_one_width_takes_the_measured_loss_at_its_own_width(tmp_path: Path) -> None:
    full = find(tmp_path, method="full").error
    one = find(tmp_path, method="one_width", reference=tnb.Palettize(2)).error
    np.testing.assert_allclose(one[:, 2], full[:, 2])


def test_shares_of_pairs_add_up_to_what_both_do() -> None:
    palettes = {nbits: tnb.Palettize(nbits) for nbits in (1, 2, 3, 4, 6)}
    left = {scheme: 4.0**-nbits for nbits, scheme in palettes.items()}  # how far each moves one output
    right = {scheme: 0.5 * 4.0**-nbits for nbits, scheme in palettes.items()}
    total = 0.0
    for mine, other in [(left, right), (right, left)]:
        alone = {scheme: moved**2 for scheme, moved in mine.items()}
        together = {palettes[nbits]: (mine[palettes[nbits]] + other[palettes[nbits]]) ** 2 for nbits in (2, 3, 4)}
        added = {scheme: loss - other[scheme] ** 2 for scheme, loss in together.items()}
        shares = loss_curves.shares(alone, added, {scheme: moved**2 for scheme, moved in mine.items()})
        assert shares.keys() == alone.keys()
        total += shares[palettes[6]]
    assert total == pytest.approx(2.25 * left[palettes[6]] ** 2), "pair terms shrink with the errors of both"


@pytest.mark.parametrize("metric", ["mse", "kl"])
def test_shares_add_up_to_the_loss_of_all_weights_together(tmp_path: Path, metric: str) -> None:
    model = models.classifier()
    found = find(tmp_path, metric=metric)
    names = model.weights.loc[model.weights["compressible"], "name"].tolist()
    for nbits in (4, 2):
        plan = tnb.Plan(model).set(names, tnb.Palettize(nbits))
        assert found.total(plan) == pytest.approx(tnb.evaluate(plan, images(), metric).value, rel=0.1)


def test_other_schemes_lie_between_the_widths_that_were_measured(tmp_path: Path) -> None:
    pruned, grouped = tnb.Prune(0.5), tnb.Palettize(3, "per_grouped_channel", 16)
    schemes = (*SCHEMES, pruned, pruned + tnb.Palettize(4), grouped)
    found = find(tmp_path, schemes=schemes)
    full = find(tmp_path, method="full", schemes=schemes)
    column = {scheme: place for place, scheme in enumerate(found.schemes)}
    np.testing.assert_allclose(found.error[:, column[pruned]], full.error[:, column[pruned]])
    for scheme in (pruned + tnb.Palettize(4), grouped):
        known = full.error[:, column[scheme]] > 0
        ratio = found.error[known, column[scheme]] / full.error[known, column[scheme]]
        assert 0.5 < np.median(ratio) < 2


def test_a_users_own_metric_sees_what_the_module_returns(tmp_path: Path) -> None:
    def metric(outputs: torch.Tensor, reference: torch.Tensor) -> float:
        return float((outputs - reference).abs().max())

    worst = find(tmp_path, method="full", metric=metric)
    mean = find(tmp_path, method="full", metric="mse")
    assert worst.metric.endswith("metric")
    known = np.isfinite(mean.error)
    assert (worst.error[known] >= np.sqrt(mean.error[known])).all()


def pool(workers: int = 2) -> ProcessPoolExecutor:
    # A fork of this process, which has threads, may hang. The server that forks imports torch once for all workers.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["talaria_nb.trials"])
    return ProcessPoolExecutor(workers, mp_context=context)


class OfDask(Executor):
    """`Client.get_executor()` of a local cluster, which goes away with it."""

    def __init__(self) -> None:
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(n_workers=2, threads_per_worker=2, processes=False, dashboard_address=None)
        self.client = Client(self.cluster)
        self.inner = self.client.get_executor()

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        return self.inner.submit(*args, **kwargs)

    def shutdown(self, *_args: Any, **_kwargs: Any) -> None:
        self.client.close()
        self.cluster.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("executor", [pool, lambda: ThreadPoolExecutor(3), OfDask])
def test_every_executor_gives_the_same_to_the_bit(tmp_path: Path, executor: Callable[[], Executor]) -> None:
    here = find(tmp_path / "here", method="full")
    with executor() as there:
        elsewhere = find(tmp_path / "there", method="full", executor=there)
    assert np.array_equal(here.error, elsewhere.error, equal_nan=True)
    assert [path.suffix for path in (tmp_path / "there" / "sensitivity").iterdir()] == [".jsonl"]


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = find(tmp_path / "whole", method="full").error
    first = trials_that_run(monkeypatch, most=5)
    with pytest.raises(KeyboardInterrupt):
        find(tmp_path / "cut", method="full")
    (file,) = (tmp_path / "cut" / "sensitivity").iterdir()
    with file.open("a") as results:
        results.write('\n["head", "Palett')  # as if the process was killed while it wrote
    done = trials_that_run(monkeypatch)
    assert np.array_equal(find(tmp_path / "cut", method="full").error, whole, equal_nan=True)
    assert len(done) == np.isfinite(whole[:, 1:]).sum() - 5
    assert not set(done) & set(first)
    done.clear()
    find(tmp_path / "cut", method="full")
    assert not done


def test_other_data_weights_and_metrics_are_not_taken_from_the_cache(tmp_path: Path) -> None:
    find(tmp_path)
    find(tmp_path, metric="kl")
    find(tmp_path, data=images(3))
    module = models.Classifier().eval()
    other = tnb.load(module, torch.zeros(1, 3, 32, 32), progress=False)
    tnb.sensitivity(other, images(), schemes=SCHEMES, cache=tmp_path, progress=False)
    assert len(list((tmp_path / "sensitivity").iterdir())) == 4


class Dying(Executor):
    """Runs three things, then breaks."""

    def __init__(self) -> None:
        self.left = 3

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.left:
            self.left -= 1
            future.set_result(function(*args, **kwargs))
        else:
            future.set_exception(MemoryError("killed"))
        return future


def test_an_executor_that_dies_leaves_what_was_finished(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"MemoryError: killed\. 3 of 12 trials are done and kept; call again"):
        find(tmp_path, method="full", executor=Dying())
    with pytest.raises(EvaluationError, match="6 of 12 trials"):
        find(tmp_path, method="full", executor=Dying())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_process_that_is_killed_leaves_what_was_finished(tmp_path: Path) -> None:
    with pool(1) as workers:
        workers.submit(os.getpid).result()
        workers.submit(os._exit, 1)
        with pytest.raises(EvaluationError, match="trials are done and kept"):
            find(tmp_path, method="full", executor=workers)
    assert np.isfinite(find(tmp_path, method="full").error).any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": []}, "data are empty"),
        ({"data": torch.zeros(1, 3, 32, 32)}, r"iterable of inputs, such as \[x, …\], not one Tensor"),
        ({"data": [torch.zeros(1, 5, 32, 32)]}, r"does not run on item 0 of the data \(\(1, 5, 32, 32\) float32\)"),
        ({"data": ["text"]}, "no input"),
        ({"data": [torch.full((1, 3, 32, 32), torch.nan)]}, "infinite values or NaN for item 0"),
        ({"metric": "accuracy"}, "no metric 'accuracy'. Use one of mse, cosine, kl, top1"),
        ({"metric": lambda *_: "good"}, "must return one number"),
        ({"metric": lambda *_: 0.0}, "No weight changes the outputs"),
        ({"method": "guess"}, "no method 'guess'"),
        ({"method": "fisher", "metric": "top1"}, 'has no gradient, which method="fisher" needs'),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        find(tmp_path, **changed)


def test_a_plan_of_another_model_or_of_schemes_not_looked_at_is_refused(tmp_path: Path) -> None:
    found = find(tmp_path)
    with pytest.raises(EvaluationError, match="another model"):
        found.total(tnb.Plan(models.unet()))
    with pytest.raises(EvaluationError, match=r"knows nothing of .*head.* as Palettize\(.*schemes="):
        found.total(tnb.Plan(models.classifier()).set("head", tnb.Palettize(6)))


class Counter(nn.Module):
    """Keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)
        self.register_buffer("seen", torch.zeros(1, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.add_(self.layer(x))
        return self.seen * 1


def test_buffers_start_anew_with_every_item_and_stay_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Counter().eval()
    model = tnb.load(module, torch.zeros(1, 64), progress=False)
    x = torch.ones(1, 64)
    one = tnb.sensitivity(model, [x], schemes=SCHEMES, cache=tmp_path, progress=False)
    two = tnb.sensitivity(model, [x, x], schemes=SCHEMES, cache=tmp_path, progress=False)
    np.testing.assert_allclose(one.error, two.error)
    assert not module.seen.any()


class Tagger(nn.Module):
    """Says something of every position, of padding too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + attention_mask[..., None]


@pytest.mark.parametrize("method", ["full", "fisher"])
def test_what_is_said_of_padding_does_not_count(tmp_path: Path, method: str) -> None:
    torch.manual_seed(0)
    words = torch.randn(1, 3, 64)
    alone = {"x": words, "attention_mask": torch.ones(1, 3)}
    model = tnb.load(Tagger().eval(), alone, progress=False)
    padded = {
        "x": torch.cat([words, 1e3 * torch.randn(1, 2, 64)], 1),
        "attention_mask": torch.tensor([[1, 1, 1, 0, 0.0]]),
    }
    plan = tnb.Plan(model).set("*", SCHEMES[0])
    for item in (padded, tuple(padded.values())):
        assert tnb.evaluate(plan, [item]).value == pytest.approx(tnb.evaluate(plan, [alone]).value, rel=1e-6)
    found = [
        tnb.sensitivity(model, [item], method=method, schemes=SCHEMES, cache=tmp_path, progress=False).error
        for item in (alone, padded)
    ]
    np.testing.assert_allclose(*found, rtol=1e-4 if method == "full" else 0.5)  # signs are drawn for other shapes
    padded["x"][0, 4] = torch.inf
    assert np.isfinite(tnb.evaluate(plan, [padded]).value), "nor what is infinite there"


def test_a_module_that_was_traced_runs_too() -> None:
    torch.manual_seed(0)
    module, x = nn.Sequential(nn.Linear(64, 64), nn.ReLU()).eval(), torch.randn(2, 64)
    with warnings.catch_warnings(action="ignore"):
        traced = torch.jit.trace(module, x)
        loaded = [tnb.load(each, x, progress=False) for each in (module, traced)]
    losses = [tnb.evaluate(tnb.Plan(model).set("*", SCHEMES[1]), [x]).value for model in loaded]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[0] > 0
    assert torch.equal(traced(x), module(x)), "it is a copy that changes"


class Balance(nn.Module):
    """What it weighs is so even that little tips it over: below zero there is no logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64, bias=False)
        self.plain = nn.Linear(64, 64)
        weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        self.layer.weight = nn.Parameter(weight - weight.mean(1, keepdim=True) + 0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).log() + self.plain(x)


@pytest.mark.parametrize("method", ["widths", "full", "one_width"])
def test_what_makes_outputs_nan_is_not_known_and_not_taken(tmp_path: Path, method: str) -> None:
    torch.manual_seed(0)
    ones = torch.ones(1, 64)
    model = tnb.load(Balance().eval(), ones, progress=False)
    found = tnb.sensitivity(model, [ones], method=method, schemes=SCHEMES, cache=tmp_path, progress=False)
    [broken] = [row for row, name in enumerate(found.weights) if "layer" in name]
    assert np.isnan(found.error[broken, 1:3]).all()
    assert np.isfinite(found.error[1 - broken]).all()
    plan = tnb.allocate(model, "11 bits", error=found, schemes=SCHEMES, progress=False)
    assert plan.scheme_of_weight[broken] not in SCHEMES[:2]
    with pytest.raises(EvaluationError, match="With this plan Balance returns infinite values or NaN for item 0, so"):
        tnb.evaluate(tnb.Plan(model).set("layer", SCHEMES[1]), [ones])


def test_evaluate_keeps_groups_apart_and_stays_with_the_plan() -> None:
    model = models.classifier()
    plan = tnb.Plan(model).set("*", tnb.Palettize(2))
    grouped = tnb.evaluate(plan, {"day": images()[:1], "night": images()[1:]}, "top1")
    assert set(grouped.values) == {"all", "day", "night"}
    assert grouped.values["all"] == pytest.approx((grouped.values["day"] + grouped.values["night"]) / 2)
    assert plan.evaluation == grouped
    assert plan.set("head", tnb.Palettize(1)).evaluation is None
    again = tnb.evaluate(plan, eval_fn=lambda module: {"right": float(module(images()[0]).shape[1]), "wrong": 1})
    assert (again.value, again.values["wrong"]) == (100, 1)
    assert plan.evaluation == again


def test_evaluate_refuses_what_is_no_number() -> None:
    plan = tnb.Plan(models.classifier())
    with pytest.raises(EvaluationError, match=r"must return a number or a dict of numbers, not 'fine'"):
        tnb.evaluate(plan, eval_fn=lambda _: "fine")
    with pytest.raises(EvaluationError, match="either data, with a metric, or eval_fn"):
        tnb.evaluate(plan)
