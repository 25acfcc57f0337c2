from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

import models
import talaria_nb as tnb
from talaria_nb.costs import cost_table
from talaria_nb.estimate import price, price_ops

if TYPE_CHECKING:
    import pandas as pd

DEVICE = "iPhone 15 Pro"


def test_editing_returns_a_new_plan() -> None:
    plan = tnb.Plan(models.classifier())
    edited = plan.set("head", tnb.Palettize(4))
    assert edited != plan
    assert set(plan.schemes.values()) == {tnb.Float16()}
    assert [scheme for scheme in edited.schemes.values() if scheme != tnb.Float16()] == [tnb.Palettize(4)]


def test_globs_match_module_paths_and_weight_names() -> None:
    plan = tnb.Plan(models.classifier())
    by_module = plan.set("blocks.*.pointwise", tnb.Palettize(2))
    assert sum(scheme == tnb.Palettize(2) for scheme in by_module.schemes.values()) == 3
    [head] = [name for name in plan.schemes if "head" in name]
    assert plan.set("*head_weight*", tnb.Palettize(2))[head] == tnb.Palettize(2)
    assert plan.set([head], tnb.Palettize(2)) == plan.set("head", tnb.Palettize(2))
    mask = [name == head for name in plan.schemes]
    assert plan.set(mask, tnb.Palettize(2)) == plan.set("head", tnb.Palettize(2))


def test_a_module_stands_for_everything_inside_it() -> None:
    plan = tnb.Plan(models.classifier())
    assert plan.set("blocks", tnb.Palettize(2)) == plan.set("blocks.*.pointwise", tnb.Palettize(2))
    assert plan.set("blocks.[01]", tnb.Palettize(2)) == plan.set("blocks.[01].pointwise", tnb.Palettize(2))


def test_a_model_without_weights_is_priced() -> None:
    import torch

    plan = tnb.Plan(tnb.load(torch.nn.ReLU(), torch.zeros(2, 3), progress=False))
    estimate = plan.estimate(DEVICE)
    assert estimate.bits_per_weight == 0
    assert estimate.latency_ms > 0
    assert plan.schemes == {}


def test_a_glob_passes_over_what_cannot_be_compressed_at_all() -> None:
    model = models.classifier()
    plan = tnb.Plan(model).set("*", tnb.Palettize(4))
    left = [name for name, scheme in plan.schemes.items() if scheme == tnb.Float16()]
    assert left == model.weights.loc[~model.weights["compressible"], "name"].tolist()
    assert left


@pytest.mark.parametrize(
    ("where", "scheme", "says"),
    [
        ("hed", tnb.Palettize(4), r"matches 'hed'. Did you mean 'head'\?"),
        ("nothing*", tnb.Palettize(4), "No weight or module"),
        ([True], tnb.Palettize(4), "mask has 1 entries"),
        ([3], tnb.Palettize(4), "by name, glob or mask"),
        ("blocks.0.depthwise", tnb.Palettize(4), "None of the 1 matched weights"),
        ("head", tnb.Palettize(4, "per_grouped_channel", 7), "cannot be divided into groups of 7"),
        ("head", 4, "is not a scheme"),
    ],
)
def test_bad_edits_are_answered_in_one_sentence(where: object, scheme: object, says: str) -> None:
    with pytest.raises(tnb.TalariaError, match=says):
        tnb.Plan(models.classifier()).set(where, scheme)  # type: ignore[arg-type]


def test_unknown_device_and_model_are_refused() -> None:
    plan = tnb.Plan(models.classifier())
    with pytest.raises(tnb.TalariaError, match="Unknown device 'iPhone 99'"):
        plan.estimate("iPhone 99")
    with pytest.raises(tnb.TalariaError, match="Unknown compute unit 'gpu'"):
        plan.estimate(DEVICE, compute_unit="gpu")
    with pytest.raises(tnb.TalariaError, match=r"takes what tnb\.load"):
        tnb.Plan("model")  # type: ignore[arg-type]


def test_estimate_is_the_sum_of_its_parts() -> None:
    """The formula of the cost model, written out op by op."""
    model = models.tied()
    plan = tnb.Plan(model).set("*", tnb.Palettize(4)).set("back", tnb.LinearQuantize("int8"))
    table = plan.cost_table(DEVICE)
    columns = table.columns_of(plan.scheme_of_weight)
    total = table.dispatch_ms
    for op in range(len(model.program.ops)):
        read = table.op_weights[table.op_weights_start[op] : table.op_weights_start[op + 1]]
        gathered = model.program.ops.op_type[op] == "gather"
        share = 8 / 512 if gathered else 1  # eight tokens of a table of 512
        memory = table.activation_ms[op] + sum(share * table.stream_ms[weight, columns[weight]] for weight in read)
        total += table.launch_ms[op] + max(table.compute_ms[op], memory)
    estimate = plan.estimate(DEVICE)
    assert estimate.latency_ms == pytest.approx(total, rel=1e-12)
    low, high = estimate.latency_interval
    assert low < estimate.latency_ms < high
    assert estimate.bits_per_weight == pytest.approx(
        8 * table.payload_bytes[np.arange(len(columns)), columns].sum() / table.elements.sum()
    )


def test_float16_weighs_sixteen_bits() -> None:
    assert tnb.Plan(models.minilm()).estimate(DEVICE).bits_per_weight == 16


def test_fewer_bits_are_never_larger_or_slower() -> None:
    model = models.minilm()
    table = cost_table(model.program, tnb.device(DEVICE))
    totals = [
        price(table, table.columns_of(tnb.Plan(model).set("*", scheme).scheme_of_weight))
        for scheme in (tnb.Float16(), *(tnb.Palettize(nbits) for nbits in (8, 6, 4, 3, 2, 1)))
    ]
    for more, fewer in pairwise(totals):
        assert fewer.weight_file_bytes < more.weight_file_bytes
        assert fewer.latency_ms <= more.latency_ms


def test_table_lists_every_op_beside_float16() -> None:
    model = models.minilm()
    plan = tnb.Plan(model).set("encoder.layer.0.*", tnb.Palettize(4))
    table = plan.table(DEVICE)
    assert len(table) == len(model.program.ops)
    changed = table["weight_bytes"] < table["float16_weight_bytes"]
    assert table.loc[changed, "module"].str.startswith("encoder.layer.0.").all()
    assert changed.sum() == 6
    costs = price_ops(plan.cost_table(DEVICE), plan.cost_table(DEVICE).columns_of(plan.scheme_of_weight))
    assert table["latency_ms"].sum() == pytest.approx(costs.op_ms.sum())


def test_activations_are_a_second_layer() -> None:
    plan = tnb.Plan(models.classifier())
    eight = plan.set_activations("blocks", "int8")
    assert eight != plan
    assert set(eight.activations.values()) == {"int8"}
    kinds = {
        models.classifier().program.ops.op_type[models.classifier().program.op_row[op]] for op in eight.activations
    }
    assert kinds <= {"conv", "add"}
    assert eight.set("head", tnb.Palettize(4)).activations == eight.activations
    assert eight.set_activations("*", None) == plan
    assert eight.estimate(DEVICE).weight_file_bytes == plan.estimate(DEVICE).weight_file_bytes


@pytest.mark.parametrize(
    ("load", "where", "dtype", "says"),
    [
        (models.classifier, "nothing*", "int8", "No op or module"),
        (models.classifier, "blocks", "int4", 'can be "int8" or None'),
        (models.tied, "embedding", "int8", "It is a"),
        (lambda: models.unet("iOS16"), "middle", "int8", "need iOS17"),
    ],
)
def test_activations_that_cannot_be_quantized_are_refused(load, where, dtype, says: str) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    with pytest.raises(tnb.TalariaError, match=says):
        tnb.Plan(load()).set_activations(where, dtype)


def test_overhead_is_shown_apart() -> None:
    plan = tnb.Plan(models.classifier()).set("head", tnb.Palettize(4) + tnb.LinearQuantize("int8", "per_tensor"))
    table = plan.weight_table()
    [row] = table[table["scheme"] == "4-bit palettize + int8 tables"].itertuples()
    assert row.data_bytes == 100 * 64 // 2
    assert row.overhead_bytes == 16 + 2
    assert row.weight_bytes == row.data_bytes + row.overhead_bytes
    assert table["weight_bytes"].sum() * 8 / models.classifier().program.weights.elements.sum() == pytest.approx(
        plan.estimate(DEVICE).bits_per_weight
    )


def test_int8_products_are_faster_where_the_chip_says_so() -> None:
    plan = tnb.Plan(models.unet()).set("middle", tnb.LinearQuantize("int8"))
    eight = plan.set_activations("*", "int8")
    ops = plan.model.ops
    [middle] = np.flatnonzero((ops["module"] == "middle") & (ops["op_type"] == "conv"))

    def table(each: tnb.Plan, phone: str = DEVICE) -> pd.Series:
        return each.table(phone)["latency_ms"]

    assert table(eight)[middle] < table(plan)[middle]
    others = np.delete(np.arange(len(table(plan))), middle)
    assert np.allclose(table(eight)[others], table(plan)[others]), "weights of other ops are float16"
    assert np.allclose(table(eight, "iPhone 14"), table(plan, "iPhone 14"))
    palettes = plan.set("middle", tnb.Palettize(8))
    assert np.allclose(table(palettes.set_activations("*", "int8")), table(palettes))


def test_intervals_widen_with_what_a_plan_changes_and_those_of_a_difference_are_narrower() -> None:
    model = models.minilm()
    plan, dense = tnb.Plan(model).set("*", tnb.Palettize(2)), tnb.Plan(model)
    found = plan.compare(dense, DEVICE)
    assert found.plan == plan.estimate(DEVICE)
    assert found.other == dense.estimate(DEVICE)
    assert found.difference_ms == pytest.approx(found.plan.latency_ms - found.other.latency_ms)
    assert found.difference_interval[0] <= found.difference_ms <= found.difference_interval[1]
    widths = [np.ptp(np.log(each.latency_interval)) for each in (found.plan, found.other)]
    assert widths[0] > widths[1]
    assert np.ptp(np.log(found.ratio_interval)) < np.hypot(*widths)
    assert np.ptp(found.difference_interval) < np.hypot(
        *(np.ptp(each.latency_interval) for each in (found.plan, found.other))
    )
    same = dense.compare(dense, DEVICE)
    assert same.ratio == 1
    assert same.difference_bytes == 0
    eight = plan.compare(dense, DEVICE, batch=8)
    assert (eight.plan, eight.other) == (plan.estimate(DEVICE, batch=8), dense.estimate(DEVICE, batch=8))
    assert eight.ratio > found.ratio, (
        "the more items share the weights, the less there is to win by making them smaller"
    )
    assert plan.table(DEVICE, batch=8)["latency_ms"].sum() > plan.table(DEVICE)["latency_ms"].sum()
    with pytest.raises(tnb.TalariaError, match="another"):
        plan.compare(tnb.Plan(models.unet()), DEVICE)


def test_roofline_shows_what_the_table_says() -> None:
    plan = tnb.Plan(models.minilm()).set("encoder.layer.0.*", tnb.Palettize(4))
    table, flops = plan.table(DEVICE), plan.model.ops["flops"]
    points = [trace for trace in plan.roofline(DEVICE).data if trace.mode == "markers"]
    rows = np.concatenate([trace.customdata for trace in points])
    assert sorted(rows) == np.flatnonzero((flops > 0) & (table["latency_ms"] > 0)).tolist()
    for trace in points:
        bounds = set(table["bound"][trace.customdata])
        assert len(bounds) == 1
        assert trace.name.endswith(f": {bounds.pop()}")
        assert np.allclose(trace.y, flops[trace.customdata] / table["latency_ms"][trace.customdata] / 1e6)
        assert (np.array(trace.x) > 0).all()
    lines = [trace for trace in plan.roofline(DEVICE).data if trace.mode == "lines"]
    peak = tnb.device(DEVICE).unit("all").compute_tflops * 1e3
    assert max(max(trace.y) for trace in lines) <= peak
    linear = table["op_type"] == "linear"
    assert (flops[linear] / table["latency_ms"][linear] / 1e6 <= peak).all()
