"""Plans as YAML: they come back as they were, and no model but their own takes them."""

from __future__ import annotations

import pytest
import yaml

import models
import talaria_nb as tnb
from talaria_nb.errors import PlanError, SchemeError


def plan() -> tnb.Plan:
    made = tnb.Plan(models.unet()).set(
        "middle", tnb.Prune(0.5) + tnb.LinearQuantize("int4", "per_block", (1, 16, 0, 0))
    )
    made = made.set("leave", tnb.Palettize(4) + tnb.LinearQuantize("int8", "per_tensor"))
    made = made.set("up", tnb.Palettize(2, "per_grouped_channel", 8, channel_axis=1, cluster_dim=2))
    return made.set("down", tnb.Prune(n_m_ratio=(1, 2))).set_activations("middle", "int8")


def test_a_plan_comes_back_as_it_was() -> None:
    assert tnb.Plan.from_yaml(models.unet(), plan().to_yaml()) == plan()
    empty = tnb.Plan(models.unet())
    assert tnb.Plan.from_yaml(models.unet(), empty.to_yaml()) == empty


def test_weights_are_grouped_by_scheme() -> None:
    text = tnb.Plan(models.minilm()).set("*", tnb.Palettize(4)).to_yaml()
    assert len(yaml.safe_load(text)["plan"]) == 1
    assert text.count("palettize") == 1


def test_a_plan_for_another_model_is_refused_with_what_differs() -> None:
    text = plan().to_yaml()
    with pytest.raises(
        PlanError, match=r"another model \(UNet\) than Classifier: it has no weight p_enter_weight.* more"
    ):
        tnb.Plan.from_yaml(models.classifier(), text)
    with pytest.raises(PlanError, match="targets iOS17 instead of iOS18"):
        tnb.Plan.from_yaml(models.unet("iOS17"), text.replace(models.unet().program.fingerprint, "other"))
    document = yaml.safe_load(text)
    document["model"]["fingerprint"] = "other"
    document["model"]["weights"]["p_up_weight_to_fp16"] = [64, 32, 3, 3]
    with pytest.raises(
        PlanError, match=r"p_up_weight_to_fp16 has shape \(64, 32, 3, 3\) there and \(64, 32, 2, 2\) here"
    ):
        tnb.Plan.from_yaml(models.unet(), yaml.safe_dump(document))


@pytest.mark.parametrize(
    ("right", "wrong", "error", "message"),
    [
        ("  - p_up_weight_to_fp16", "  - p_upp_weight_to_fp16", PlanError, "Did you mean 'p_up_weight_to_fp16'"),
        (
            "palettize: {nbits: 4}",
            "paletize: {nbits: 4}",
            SchemeError,
            "no scheme 'paletize'. Did you mean 'palettize'",
        ),
        ("{nbits: 4}", "{n_bits: 4}", SchemeError, "no parameter 'n_bits'. Did you mean 'nbits'"),
        ("{nbits: 4}", "{nbits: 5}", SchemeError, "5 bits"),
        ("plan:\n", "plans:\n", PlanError, "Did you mean 'plan'"),
        ("talaria_nb_plan: 1", "talaria_nb_plan: 2", PlanError, "version 2"),
        ("talaria_nb_plan: 1", "version: 1", PlanError, "not a plan"),
        ("talaria_nb_plan: 1", "talaria_nb_plan: [", PlanError, "not YAML"),
        ("talaria_nb_plan: 1", "talaria_nb_plan: !!python/name:os.system", PlanError, "not YAML"),
        ("group_size: 8", "group_size: 6", SchemeError, "cannot be divided"),
        ("  - p_up_weight_to_fp16", "  - p_down_weight_to_fp16", PlanError, "says twice"),
        ("  int8:\n  - ", "  int8:\n  - x", PlanError, "no op named"),
    ],
)
def test_mistakes_are_named(right: str, wrong: str, error: type[Exception], message: str) -> None:
    text = plan().to_yaml()
    assert right in text
    with pytest.raises(error, match=message):
        tnb.Plan.from_yaml(models.unet(), text.replace(right, wrong))
