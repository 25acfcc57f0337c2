from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import models
from talaria_nb import Float16, LinearQuantize, Menu, Palettize, Plan, Prune, TalariaError
from talaria_nb.legality import WEIGHT_THRESHOLD, refusal
from talaria_nb.menu import DEFAULT_MENU


def refuse(scheme: object, shape: tuple[int, ...] = (64, 64), target: str = "iOS18") -> str | None:
    return refusal(scheme, shape=shape, channel_axes=(1, 0), deployment_target=target)  # type: ignore[arg-type]


def test_schemes_are_values() -> None:
    assert Palettize(4) == Palettize(4)
    assert hash(LinearQuantize("int4", "per_block", 32)) == hash(LinearQuantize("int4", "per_block"))
    assert sorted([Palettize(4), Float16()]) == [Float16(), Palettize(4)]
    assert len({scheme.key for scheme in DEFAULT_MENU}) == len(DEFAULT_MENU)


def test_numbers_and_texts_of_numpy_become_pythons_own() -> None:
    assert Palettize(np.int64(4), "per_grouped_channel", np.int32(8)) == Palettize(4, "per_grouped_channel", 8)
    given = Palettize(np.int64(4)), LinearQuantize(np.str_("int4"), "per_block", np.int64(32)), Prune(np.float32(0.5))
    kinds = [type(value) for scheme in given for value in dataclasses.astuple(scheme) if value is not None]
    assert set(kinds) == {int, str, float}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Palettize(5), "cannot use 5 bits"),
        (lambda: Palettize(4, "per_channel"), "granularity 'per_channel'"),
        (lambda: Palettize(4, "per_tensor", 16), "group_size only with"),
        (lambda: Palettize(4, "per_grouped_channel", 0), "positive whole group_size"),
        (lambda: LinearQuantize("int2"), "dtype 'int2'"),
        (lambda: LinearQuantize("int8", "per_channel", 32), "block_size only with"),
        (lambda: LinearQuantize("int8", "per_block", 1.5), "positive whole block_size"),
        (lambda: Palettize(4.0), "cannot use 4.0 bits"),
        (lambda: Prune(n_m_ratio=(1, 2), dim=1.0), "dim 0 or 1"),
        (lambda: Palettize(4, mode="unique"), "no nbits with mode"),
        (lambda: Palettize(4, mode="uniform", cluster_dim=2), "no vectors"),
        (lambda: Palettize(4, "per_grouped_channel", 6, cluster_dim=4), "groups of 6 into vectors of 4"),
        (lambda: Palettize(4, groups=2), "does not know the keyword 'groups'. It takes nbits, granularity"),
        (lambda: Palettize(4, enable_per_channel_scale=True), "corrupts weights"),
        (lambda: LinearQuantize("int8", "per_block", (4, -1)), "whole block_size for every axis"),
        (Prune, "exactly one of target_sparsity, n_m_ratio and threshold"),
        (lambda: Prune(0.5, threshold=0.1), "exactly one"),
        (lambda: Prune(1.5), "target_sparsity of 0 to 1"),
        (lambda: Prune(n_m_ratio=(3, 2)), "1 ≤ n ≤ m"),
        (lambda: Prune(threshold=0.1, block_size=4), "block_size only with target_sparsity"),
        (lambda: Palettize(4) + Prune(0.5), "cannot be joined"),
        (lambda: Palettize(4) + LinearQuantize("int8"), "8 bits per tensor"),
        (lambda: LinearQuantize("int4") + Palettize(4), "no tables of 4-bit integers"),
        (lambda: Prune(0.5) + Palettize(4, cluster_dim=2), "Vector palettes"),
        (lambda: Menu(("int8",)), "A menu holds schemes"),
    ],
)
def test_what_cannot_exist_is_refused_in_one_sentence(make: object, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        make()  # type: ignore[operator]
    assert isinstance(caught.value, TalariaError)


def test_legality_follows_the_deployment_target() -> None:
    assert refuse(Palettize(3)) is None
    assert "need iOS18" in str(refuse(Palettize(3), target="iOS16"))
    assert "need iOS18" in str(refuse(Palettize(4, "per_grouped_channel", 16), target="iOS17"))
    assert "need iOS18" in str(refuse(LinearQuantize("int4"), target="iOS17"))
    assert refuse(LinearQuantize("int8"), target="iOS16") is None


def test_small_weights_stay_as_they_are() -> None:
    assert refuse(Palettize(4), shape=(1, WEIGHT_THRESHOLD)) is not None
    assert refuse(Palettize(4), shape=(1, WEIGHT_THRESHOLD + 1)) is None
    assert refuse(Float16(), shape=(1, 1)) is None


@pytest.mark.parametrize(
    ("scheme", "shape", "says"),
    [
        (Palettize(4, "per_grouped_channel", 16, channel_axis=1), (64, 40), "40 input channels cannot be divided"),
        (Palettize(4, "per_grouped_channel", 16, channel_axis=2), (64, 64), "no channel_axis 2"),
        (Palettize(4, cluster_dim=3), (64, 64), "vectors of 3"),
        (Palettize(8, cluster_dim=16), (64, 64), None),
        (Palettize(8, cluster_dim=32), (64, 64), "fewer vectors of 32"),
        (LinearQuantize("int8", "per_block", (16, 0)), (64, 64), None),
        (LinearQuantize("int8", "per_block", (16, 0, 0)), (64, 64), "one number for each axis"),
        (LinearQuantize("int8", "per_block", (16, 7)), (64, 64), "cannot be divided into blocks"),
        (Prune(n_m_ratio=(2, 40)), (64, 64), "more than half of its 64 channels"),
        (Palettize(2) + LinearQuantize("int8", "per_tensor"), (64, 64), "fewer than 10 entries"),
        (LinearQuantize("int8", "per_block", 24) + Palettize(4, "per_grouped_channel", 16, 1), (48, 48), "differently"),
    ],
)
def test_each_rule_has_its_sentence(scheme: object, shape: tuple[int, ...], says: str | None) -> None:
    answer = refuse(scheme, shape)
    assert answer is None if says is None else says in str(answer)


@pytest.mark.parametrize(
    "scheme",
    [
        Prune(0.5) + Palettize(4),
        Palettize(4, cluster_dim=2),
        LinearQuantize("uint4"),
        LinearQuantize("int8", "per_block", (8, 8)),
    ],
)
def test_what_came_with_ios18_needs_it(scheme: object) -> None:
    assert refuse(scheme) is None
    assert "need iOS18; this model targets iOS17" in str(refuse(scheme, target="iOS17"))
    assert refuse(Prune(0.5), target="iOS16") is None
    assert refuse(LinearQuantize("uint8"), target="iOS16") is None


def test_only_conv_and_linear_are_pruned_in_a_pattern() -> None:
    plan = Plan(models.tied())
    with pytest.raises(TalariaError, match="Only weights of conv and linear"):
        plan.set("embedding", Prune(n_m_ratio=(1, 2)))
    assert plan.set("back", Prune(n_m_ratio=(1, 2))) != plan


def test_values_are_asked_where_they_decide() -> None:
    plan = Plan(models.classifier())
    with pytest.raises(TalariaError, match="distinct values; a table without loss holds 256"):
        plan.set("head", Palettize(mode="unique"))
    with pytest.raises(TalariaError, match="leaves fewer than 10 elements"):
        plan.set("head", Prune(1.0) + Palettize(4))


def test_a_menu_grows_and_knows_what_a_weight_can_take() -> None:
    model = models.classifier()
    [head] = [name for name in model.program.weights.name if "head" in name]
    menu = Menu.default().add(Prune(0.8), Palettize(4, "per_grouped_channel", 7))
    assert menu.schemes[0] == Float16()
    assert Prune(0.8) in menu.for_weight(model, head)
    assert Palettize(4, "per_grouped_channel", 7) not in menu.for_weight(model, head)
    assert menu.remove(Prune(0.8), Float16()).schemes[0] == Float16()
    assert Prune(0.8) not in menu.remove(Prune(0.8))
    with pytest.raises(TalariaError, match="has no weight 'nothing'"):
        menu.for_weight(model, "nothing")
