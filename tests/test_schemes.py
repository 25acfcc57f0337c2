from __future__ import annotations

import pytest

from talaria_nb import Float16, LinearQuantize, Palettize, TalariaError
from talaria_nb.legality import WEIGHT_THRESHOLD, refusal
from talaria_nb.menu import DEFAULT_MENU


def refuse(scheme: object, shape: tuple[int, ...] = (64, 64), target: str = "iOS18") -> str | None:
    return refusal(scheme, shape=shape, channel_axes=(1, 0), deployment_target=target)  # type: ignore[arg-type]


def test_schemes_are_values() -> None:
    assert Palettize(4) == Palettize(4)
    assert hash(LinearQuantize("int4", "per_block", 32)) == hash(LinearQuantize("int4", "per_block"))
    assert sorted([Palettize(4), Float16()]) == [Float16(), Palettize(4)]
    assert len({scheme.key for scheme in DEFAULT_MENU}) == len(DEFAULT_MENU)


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
