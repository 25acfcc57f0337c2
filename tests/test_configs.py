"""Configs, YAML and Python source: what coremltools makes of them is what was planned."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import coremltools.optimize.coreml as cto
import numpy as np
import pytest

import models
import talaria_nb as tnb
from packages import dequantized_weights
from talaria_nb.configs import Constant, Rules, look_up, op_config, passes, read_constants, shortest
from talaria_nb.errors import ExportError
from talaria_nb.read import mil_function

if TYPE_CHECKING:
    from collections.abc import Callable

    import coremltools as ct

    from talaria_nb.schemes import Scheme

APPLY = {"prune": cto.prune_weights, "palettize": cto.palettize_weights, "linear_quantize": cto.linear_quantize_weights}


def minilm_mixed() -> tnb.Plan:
    plan = tnb.Plan(models.minilm()).set("*", tnb.Palettize(4, mode="uniform"))
    plan = plan.set("*embedding*", tnb.LinearQuantize("int8"))
    return plan.set("encoder.layer.3.*", tnb.Float16())


def tied_mixed() -> tnb.Plan:
    """Plan for a table that is read by a gather and by a matmul, which have other weights of their own."""
    return tnb.Plan(models.tied()).set("*", tnb.LinearQuantize("int8")).set("embedding", tnb.Palettize(4))


def joint() -> tnb.Plan:
    plan = tnb.Plan(models.unet()).set(
        "middle", tnb.Prune(0.5) + tnb.LinearQuantize("int4", "per_block", (1, 16, 0, 0))
    )
    plan = plan.set("leave", tnb.Palettize(4) + tnb.LinearQuantize("int8", "per_tensor"))
    plan = plan.set("down", tnb.Prune(n_m_ratio=(1, 2)))
    return plan.set("up", tnb.LinearQuantize("int8") + tnb.Palettize(4))


def thresholds() -> tnb.Plan:
    plan = tnb.Plan(models.unet()).set("middle", tnb.Prune(threshold=0.01)).set("leave", tnb.Prune(0.3, block_size=2))
    return plan.set("down", tnb.Palettize(2, "per_grouped_channel", 8, channel_axis=1, mode="uniform"))


PLANS = [minilm_mixed, tied_mixed, joint, thresholds]


def applied(
    mlmodel: ct.models.MLModel, configs: list[tuple[str, cto.OptimizationConfig]], joints: list[bool]
) -> object:
    for (name, config), further in zip(configs, joints, strict=True):
        mlmodel = APPLY[name](mlmodel, config, **({"joint_compression": True} if further else {}))
    return mlmodel


def assert_same(one: object, other: object) -> None:
    ours, theirs = dequantized_weights(one), dequantized_weights(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])


@pytest.mark.parametrize("make", PLANS[1:])
def test_configs_yaml_and_source_all_make_the_planned_model(make: Callable[[], tnb.Plan]) -> None:
    plan = make()
    mlmodel = plan.model.mlmodel
    configured = plan.optimization_configs()
    joints = [step.joint_compression for step in configured]
    by_hand = applied(mlmodel, list(configured), joints)
    table = plan.verify(by_hand)
    assert table["match"].all(), table[~table["match"]]
    assert "exactly as predicted" in table.attrs["verdict"]
    read = [(name, cto.OptimizationConfig.from_yaml(io.StringIO(text))) for name, text in plan.configs_yaml()]
    assert [name for name, _ in read] == [name for name, _ in configured]
    assert_same(by_hand, applied(mlmodel, read, joints))
    namespace: dict[str, object] = {}
    exec(plan.to_python(), namespace)  # noqa: S102 - running it is the test
    assert_same(by_hand, namespace["compress"](mlmodel))  # type: ignore[operator]


@pytest.mark.parametrize("make", PLANS)
def test_short_rules_mean_what_the_names_say(make: Callable[[], tnb.Plan]) -> None:
    plan = make()
    constants = read_constants(plan.model.mlmodel)
    short, named = passes(plan), passes(plan, explicit=True)
    assert [rules.name for rules in short] == [rules.name for rules in named]
    assert all(len(one) <= len(other) for one, other in zip(short, named, strict=True))
    for constant in constants:
        if constant.compressible:
            assert look_up(short[0], constant) == look_up(named[0], constant), constant


def test_our_look_up_is_that_of_coremltools() -> None:
    plan = minilm_mixed()
    operations = {op.name: op for op in mil_function(plan.model.mlmodel).operations if op.op_type == "const"}
    for rules, (_, config) in zip(passes(plan), plan.optimization_configs(), strict=True):
        for constant in read_constants(plan.model.mlmodel):
            found = look_up(rules, constant)
            theirs = config._get_const_op_config(operations[constant.names[0]])
            assert theirs == (None if found is None else op_config(found)), constant


def test_uniform_plans_take_few_rules() -> None:
    plan = tnb.Plan(models.minilm()).set("*", tnb.Palettize(4))
    [rules] = passes(plan)
    assert len(rules) == 1
    assert rules.everything == tnb.Palettize(4)
    [(_, config)] = plan.optimization_configs(explicit=True)
    assert config.global_config is None
    assert not config.op_type_configs
    assert len(config.op_name_configs) == sum(scheme != tnb.Float16() for scheme in plan.schemes.values())


def test_readers_that_disagree_are_named() -> None:
    four, two = tnb.Palettize(4), tnb.Palettize(2)
    shared = Constant(("w",), (("a", "linear"), ("b", "gather")), compressible=True)
    linear = [Constant((f"w{at}",), ((f"op{at}", "linear"),), compressible=True) for at in range(4)]
    gather = [Constant((f"v{at}",), ((f"at{at}", "gather"),), compressible=True) for at in range(4)]
    wanted: dict[str, Scheme | None] = {"w": four, **{f"w{at}": four for at in range(4)}}
    wanted |= {f"v{at}": two for at in range(4)}
    rules = shortest(Rules("palettize", names=wanted), [shared, *linear, *gather])
    assert rules.names == {"w": four}
    assert len(rules) == 3
    with pytest.raises(ExportError, match="disagree"):
        look_up(Rules("palettize", op_types={"linear": four, "gather": two}), shared)


def test_a_small_constant_whose_readers_disagree_is_named_too() -> None:
    """Coremltools looks for the config of every constant, and refuses the model when a bias has two."""
    four = tnb.Palettize(4)
    bias = Constant(("bias",), (("a", "linear"), ("b", "add")), compressible=False)
    linear = [Constant((f"w{at}",), ((f"op{at}", "linear"),), compressible=True) for at in range(4)]
    other = [Constant((f"v{at}",), ((f"at{at}", "add"),), compressible=True) for at in range(4)]
    wanted: dict[str, Scheme | None] = {f"w{at}": four for at in range(4)}
    rules = shortest(Rules("palettize", names=wanted), [bias, *linear, *other])
    assert len(rules) == 2
    assert rules.names == {"bias": None}
