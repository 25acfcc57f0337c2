"""Predicted bytes against what coremltools writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import models
import talaria_nb as tnb
from packages import actual_bytes
from talaria_nb.legality import refused
from talaria_nb.menu import DEFAULT_MENU
from talaria_nb.subjects import subject
from talaria_nb.weight_bytes import weight_file_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from talaria_nb.schemes import Scheme

MENU: tuple[Scheme, ...] = (
    *DEFAULT_MENU,
    tnb.Palettize(4, "per_grouped_channel", 8),
    tnb.LinearQuantize("int8", "per_channel", mode="linear"),
    tnb.LinearQuantize("int4", "per_tensor", mode="linear"),
)


def legal_schemes(model: tnb.Model, row: int) -> list[Scheme]:
    return [scheme for scheme in MENU if refused(scheme, subject(model.program, row)) is None]


def random_plan(model: tnb.Model, rng: np.random.Generator, *, grouped: bool = True) -> tnb.Plan:
    """Draw a legal scheme for every weight; clustering by groups takes coremltools minutes on a larger model."""
    choices = [
        [scheme for scheme in legal_schemes(model, row) if grouped or getattr(scheme, "group_size", None) is None]
        for row in range(len(model.program.weights))
    ]
    return tnb.Plan(model).with_schemes([options[int(rng.integers(len(options)))] for options in choices])


@pytest.mark.parametrize("load", [models.classifier, models.unet, models.tied, models.minilm, models.mobilenet])
def test_uncompressed_file_is_predicted_to_the_byte(load: Callable[[], tnb.Model]) -> None:
    model = load()
    assert weight_file_bytes(model.program, tnb.Plan(model).scheme_of_weight) == actual_bytes(model.mlmodel)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), load=st.sampled_from([models.classifier, models.unet, models.tied]))
def test_any_mixed_plan_is_predicted_to_the_byte(seed: int, load: Callable[[], tnb.Model]) -> None:
    plan = random_plan(load(), np.random.default_rng(seed))
    table = plan.verify(progress=False)
    assert table["match"].all(), table[~table["match"]]


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), target=st.sampled_from(["iOS16", "iOS17"]))
def test_older_targets_are_predicted_to_the_byte(seed: int, target: str) -> None:
    plan = random_plan(models.unet(target), np.random.default_rng(seed))
    table = plan.verify(progress=False)
    assert table["match"].all(), table[~table["match"]]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("load", [models.minilm, models.mobilenet, models.unet])
def test_mixed_plans_of_real_models_are_predicted_to_the_byte(load: Callable[[], tnb.Model], seed: int) -> None:
    plan = random_plan(load(), np.random.default_rng(seed), grouped=load is models.unet)
    compressed = plan.compress(progress=False)
    table = plan.verify(compressed, progress=False)
    assert table["match"].all(), table[~table["match"]]
    assert plan.estimate("iPhone 15 Pro").weight_file_bytes == actual_bytes(compressed)


def test_equal_zero_points_are_stored_once() -> None:
    """Before iOS18 symmetric weights store zeros as zero points, and coremltools merges equal constants."""
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Linear(128, 128), torch.nn.Linear(128, 200))
    model = tnb.load(module.eval(), torch.zeros(1, 64), deployment_target="iOS16", progress=False)
    plan = tnb.Plan(model).set("*", tnb.LinearQuantize("int8", "per_channel"))
    compressed = plan.compress(progress=False)
    assert plan.estimate("iPhone 13").weight_file_bytes == actual_bytes(compressed)
    assert plan.verify(compressed)["match"].all()


def test_a_refused_scheme_is_what_coremltools_would_skip() -> None:
    """Forty output channels cannot be grouped by 16: coremltools leaves the weight as it is, without an error."""
    import coremltools.optimize.coreml as cto
    import torch

    model = tnb.load(torch.nn.Linear(64, 40).eval(), torch.zeros(1, 64), progress=False)
    [weight] = model.program.weights.name
    with pytest.raises(tnb.TalariaError, match="40 output channels cannot be divided into groups of 16"):
        tnb.Plan(model).set(weight, tnb.Palettize(4, "per_grouped_channel", 16))
    config = cto.OpPalettizerConfig(nbits=4, granularity="per_grouped_channel", group_size=16)
    skipped = cto.palettize_weights(model.mlmodel, cto.OptimizationConfig(op_name_configs={weight: config}))
    assert actual_bytes(skipped) == actual_bytes(model.mlmodel)
