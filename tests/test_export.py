from __future__ import annotations

from typing import TYPE_CHECKING

import coremltools.optimize.coreml as cto
import numpy as np
import pytest

import models
import talaria_nb as tnb
from talaria_nb.errors import ExportError
from talaria_nb.export import dequantized_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

MIXED: Mapping[str, object] = {
    "enter*": tnb.Float16(),
    "down": tnb.Palettize(4),
    "middle": tnb.LinearQuantize("int4", "per_block", 16),
    "up": tnb.Palettize(2, "per_grouped_channel", 8),
    "leave": tnb.LinearQuantize("int8"),
}


@pytest.fixture(scope="module")
def mixed() -> tnb.Plan:
    plan = tnb.Plan(models.unet())
    for where, scheme in MIXED.items():
        plan = plan.set(where, scheme)  # type: ignore[arg-type]
    return plan


def test_configs_are_keyed_by_const_name_and_disjoint(mixed: tnb.Plan) -> None:
    configs = dict(mixed.optimization_configs())
    assert [*configs] == ["palettize", "linear_quantize"]
    names = [set(config.op_name_configs) for config in configs.values()]
    assert not names[0] & names[1]
    assert names[0] | names[1] == {name for name, scheme in mixed.schemes.items() if scheme != tnb.Float16()}
    assert all(config.global_config is None for config in configs.values())


def test_configs_applied_by_hand_give_the_same_model(mixed: tnb.Plan) -> None:
    mlmodel = mixed.model.mlmodel
    for name, config in mixed.optimization_configs():
        mlmodel = {"palettize": cto.palettize_weights, "linear_quantize": cto.linear_quantize_weights}[name](
            mlmodel, config
        )
    ours, by_hand = dequantized_weights(mixed.compress(progress=False)), dequantized_weights(mlmodel)
    assert ours.keys() == by_hand.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, by_hand[name])


def test_python_source_runs_as_it_stands(mixed: tnb.Plan) -> None:
    namespace: dict[str, object] = {}
    exec(mixed.to_python(), namespace)  # noqa: S102 - running it is the test
    compressed = namespace["compress"](mixed.model.mlmodel)  # type: ignore[operator]
    assert mixed.verify(compressed)["match"].all()


def test_python_source_of_the_float16_plan_changes_nothing() -> None:
    plan = tnb.Plan(models.unet())
    namespace: dict[str, object] = {}
    exec(plan.to_python(), namespace)  # noqa: S102 - running it is the test
    assert namespace["compress"](plan.model.mlmodel) is plan.model.mlmodel  # type: ignore[operator]
    assert plan.optimization_configs() == []


def test_verify_compares_every_weight_and_the_file(mixed: tnb.Plan) -> None:
    table = mixed.verify(progress=False)
    assert [*table.index] == [*mixed.schemes, "weight.bin"]
    assert table["match"].all()
    assert "exactly as predicted" in table.attrs["verdict"]
    quality = table["sqnr_db"].drop("weight.bin")
    changed = np.array([scheme != tnb.Float16() for scheme in mixed.schemes.values()])
    assert np.isinf(quality[~changed]).all()
    assert quality[changed].between(3, 80).all()


def test_verify_notices_a_weight_that_was_skipped(mixed: tnb.Plan) -> None:
    table = mixed.verify(mixed.model.mlmodel, progress=False)
    wrong = table.index[~table["match"]]
    assert set(wrong) == {name for name, scheme in mixed.schemes.items() if scheme != tnb.Float16()} | {"weight.bin"}
    assert "differ from the prediction" in table.attrs["verdict"]


def test_compress_leaves_the_model_alone(mixed: tnb.Plan) -> None:
    before = mixed.model.mlmodel.get_spec().SerializeToString()
    mixed.compress(progress=False)
    assert mixed.model.mlmodel.get_spec().SerializeToString() == before


def test_a_silent_skip_is_an_error(monkeypatch: pytest.MonkeyPatch, mixed: tnb.Plan) -> None:
    monkeypatch.setattr(cto, "palettize_weights", lambda mlmodel, _config: mlmodel)
    with pytest.raises(ExportError, match="skipped 2 weights"):
        mixed.compress(progress=False)


def test_a_tied_weight_is_compressed_once() -> None:
    plan = tnb.Plan(models.tied()).set("embedding", tnb.Palettize(4))
    assert plan.verify(progress=False)["match"].all()
