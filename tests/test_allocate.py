"""Plans for a budget: kept by the estimate itself, pins kept, and never far from the best plan there is."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import make_fixtures
import models
import synthetic
import talaria_nb as tnb
from talaria_nb.additive import additive, cost
from talaria_nb.allocator import Allocator
from talaria_nb.budgets import METRICS, Budget
from talaria_nb.error_table import ErrorTable
from talaria_nb.load import Model
from talaria_nb.source import SourceMap

if TYPE_CHECKING:
    from talaria_nb.budgets import Metric
    from talaria_nb.costs import CostTable

DEVICE = "iPhone 15 Pro"
SEEDS = st.integers(0, 2**32 - 1)


def made_up(seed: int, weights: int, ops: int = 6) -> tuple[Model, CostTable, ErrorTable]:
    """Make up prices and errors, with tensors that are shared, ops that read several weights, and int8 activations.

    Ops that coremltools gives int8 activations read one weight, beside those that cannot be compressed.
    """
    rng = np.random.default_rng(seed)
    table = make_fixtures.random_table(rng, ops=ops, weights=weights)
    one = np.diff(table.op_weights_start)[table.int8_ops] <= 1
    table = replace(table, int8_ops=table.int8_ops[one], int8_ms=table.int8_ms[:, one])
    build = synthetic.Builder()
    x = build.input((1, 64))
    for _ in range(weights):
        x = build.op("linear", {"x": x, "weight": build.weight((64, 64))}, (1, 64))
    model = Model(build.program([x]), None, SourceMap())
    error = rng.lognormal(0, 2, (weights, 1)) * rng.lognormal(0, 1, table.reason.shape)
    error *= np.arange(table.reason.shape[1]) > 0
    return model, table, ErrorTable(table.schemes, np.where(table.reason < 0, error, np.nan), "measured", "made up")


class Bare(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)


def test_a_model_without_weights_has_one_plan() -> None:
    model = tnb.load(Bare().eval(), torch.zeros(1, 8), progress=False)
    plan = tnb.Plan(model)
    assert model.weights["compressible"].tolist() == []
    for found in (tnb.allocate(model, "1 bit"), tnb.allocate(model, "1 MB"), tnb.allocate(model, preset="AFM")):
        assert (found.scheme_of_weight, found.error, found.optimal) == ((), 0.0, True)
    with pytest.raises(tnb.BudgetError, match="No plan keeps 100 bytes: the least that can be reached is 1,"):
        tnb.allocate(plan, "100 B")
    with pytest.raises(tnb.BudgetError, match="Bare has no weights, so all that it has is one plan"):
        tnb.pareto(model)


def random_columns(rng: np.random.Generator, allowed: np.ndarray) -> np.ndarray:
    return np.array([rng.choice(np.flatnonzero(row)) for row in allowed])


@given(seed=SEEDS, metric=st.sampled_from(METRICS))
def test_sums_are_never_more_than_what_a_plan_costs(seed: int, metric: Metric) -> None:
    rng = np.random.default_rng(seed)
    table = make_fixtures.random_table(rng, ops=int(rng.integers(1, 12)), weights=int(rng.integers(1, 10)))
    allowed = table.reason < 0
    counted = np.ones(len(allowed), dtype=np.bool_)
    int8 = rng.random(len(table.launch_ms)) < make_fixtures.INT8_SHARE
    terms = additive(table, metric, allowed, counted, random_columns(rng, allowed), int8)
    rows = np.arange(len(allowed))
    for _ in range(10):
        columns = random_columns(rng, allowed)
        real = cost(table, metric, columns, counted, int8)
        summed = terms.fixed + float(terms.by_weight[rows, columns].sum())
        assert summed <= real * (1 + 1e-12) + (1 if metric == "size" else 0)  # sizes are whole bytes, cut off
        if metric == "bits":
            assert summed == pytest.approx(real)


@pytest.mark.parametrize("metric", METRICS)
def test_sums_are_what_a_plan_of_a_real_model_costs(metric: Metric) -> None:
    allocator = Allocator(models.classifier(), device=DEVICE, progress=False)
    table = allocator.table
    rng = np.random.default_rng(0)
    allowed = table.reason < 0
    counted = np.ones(len(allowed), dtype=np.bool_)
    columns = random_columns(rng, allowed)
    terms = additive(table, metric, allowed, counted, columns)
    summed = terms.fixed + float(terms.by_weight[np.arange(len(allowed)), columns].sum())
    assert summed == pytest.approx(cost(table, metric, columns, counted), rel=1e-3 if metric == "size" else 1e-9)


@settings(max_examples=40)
@given(seed=SEEDS, weights=st.integers(1, 4), wanted=st.sets(st.sampled_from(METRICS), min_size=1, max_size=3))
def test_budgets_are_kept_and_the_bound_holds_for_every_plan(seed: int, weights: int, wanted: set[Metric]) -> None:
    model, table, errors = made_up(seed, weights)
    rng = np.random.default_rng(seed)
    allowed = table.reason < 0
    counted = np.ones(weights, dtype=np.bool_)
    somewhere = random_columns(rng, allowed)
    budgets = [
        Budget(metric, cost(table, metric, somewhere, counted) * rng.uniform(0.9, 1.2) + 1e-9)
        for metric in sorted(wanted)
    ]
    kept = [
        (float(errors.error[np.arange(weights), columns].sum()), columns)
        for columns in map(np.array, product(*map(np.flatnonzero, allowed)))
        if all(cost(table, budget.metric, columns, counted) <= budget.most for budget in budgets)
    ]
    allocator = Allocator(model, table=table, error=errors, schemes=table.schemes, progress=False)
    try:
        found = allocator.allocate(budgets)
    except tnb.BudgetError:
        assert not kept
        return
    columns = table.columns_of(found.scheme_of_weight)
    for budget in budgets:
        assert cost(table, budget.metric, columns, counted) == found.spent[budget] <= budget.most
    assert found.error == pytest.approx(float(errors.error[np.arange(weights), columns].sum()))
    least = min(error for error, _ in kept)
    assert found.bound <= least * (1 + 1e-6) + 1e-9
    assert found.error >= least * (1 - 1e-9)
    if found.optimal:
        assert found.error == pytest.approx(least, rel=1e-3)
    for plan in allocator.uniform().values():
        price = table.columns_of(plan.scheme_of_weight)
        if all(cost(table, budget.metric, price, counted) <= budget.most for budget in budgets):
            assert found.error <= plan.error * (1 + 1e-9)


def test_a_plan_keeps_its_budgets_by_its_own_estimate() -> None:
    model = models.classifier()
    for size, bits in ((40_000, 8), (30_000, 5), (26_000, 6)):
        plan = tnb.allocate(model, [f"{size} B", f"{bits} bits"], progress=False)
        estimate = plan.estimate(DEVICE)
        assert estimate.size_bytes <= size
        assert estimate.bits_per_weight <= bits
        assert plan.spent == {Budget("size", size): estimate.size_bytes, Budget("bits", bits): estimate.bits_per_weight}


def test_the_least_that_is_reported_is_the_least_that_is_kept() -> None:
    model = models.classifier()
    least, most = Allocator(model, device=DEVICE, progress=False).range_of("size")
    assert least < most == tnb.Plan(model).estimate(DEVICE).size_bytes
    assert tnb.allocate(model, tnb.Budget("size", least), progress=False).estimate(DEVICE).size_bytes == least
    with pytest.raises(tnb.BudgetError, match=f"least that can be reached is {int(least):,} bytes"):
        tnb.allocate(model, tnb.Budget("size", least - 1), progress=False)


@pytest.mark.parametrize("unit", ["bits", "ms", "mJ"])
def test_the_least_that_an_error_names_can_be_kept(unit: str) -> None:
    model = models.classifier()
    with pytest.raises(tnb.BudgetError) as refused:
        tnb.allocate(model, f"0.01 {unit}", device=DEVICE, progress=False)
    named = re.search(rf"reached is (\S+ {unit})\.", str(refused.value))
    assert named is not None
    tnb.allocate(model, named[1], device=DEVICE, progress=False)


def test_pins_are_kept_and_the_last_one_holds() -> None:
    model = models.classifier()
    some = [tnb.Palettize(4), tnb.Palettize(2)]
    plan = tnb.allocate(
        model, "7 bits", pins={"*": 6, "blocks": some, "head": 8, "stem*": tnb.Float16()}, progress=False
    )
    kept = tnb.Plan(model).set("blocks", tnb.Palettize(4))
    for name, scheme in plan.schemes.items():
        if "head_weight" in name:
            assert scheme.bits == 8
        elif kept[name] == tnb.Palettize(4):
            assert scheme in some


def test_what_is_alike_gets_one_scheme() -> None:
    model = models.classifier()
    free = tnb.allocate(model, "3.9 bits", progress=False)
    alike = tnb.allocate(model, "3.9 bits", alike=["blocks"], progress=False)
    compressible = set(model.weights.loc[model.weights["compressible"], "name"])
    blocks = {name for name, bits in tnb.Plan(model).set("blocks", tnb.Palettize(4)).schemes.items() if bits.bits == 4}
    assert len({free[name] for name in blocks & compressible}) > 1
    assert len({alike[name] for name in blocks & compressible}) == 1
    assert alike.error >= free.error


def test_an_infeasible_budget_names_the_pins_that_cause_it() -> None:
    model = models.classifier()
    with pytest.raises(tnb.BudgetError, match=r"The pins are to blame: without 'head' it is 3\.\d+ bits") as caught:
        tnb.allocate(model, "4 bits", pins={"head": 8, "blocks.1": 1}, progress=False)
    assert "blocks.1" not in str(caught.value)
    slow = Allocator(model, schemes=[tnb.Float16(), tnb.Palettize(1)], device=DEVICE, progress=False)
    slow.table.stream_ms[:, slow.table.column[tnb.Palettize(1)]] = 99.0
    with pytest.raises(tnb.BudgetError, match=r"at once\. Each can be kept alone"):
        slow.allocate(["4 bits", "1 ms"])


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ("4 parsecs", "Write a number and a unit"),
        ("4", r'Write "4 bits" or "4 MB"'),
        ("4 mb", r'Did you mean "4 MB"\?'),
        ("-1 MB", "Write a number and a unit"),
        ("0 MB", "positive number"),
        (4, "a budget is"),
        ([], "No budget"),
        (None, "No budget is given"),
        ("5 ms", "needs a device"),
    ],
)
def test_what_is_no_budget_is_refused_in_one_sentence(budget: object, says: str) -> None:
    with pytest.raises(tnb.BudgetError, match=f"(?i){says}"):
        tnb.allocate(models.classifier(), budget, progress=False)


def test_tables_of_errors_are_checked() -> None:
    model = models.classifier()
    schemes = (tnb.Float16(), tnb.Palettize(4), tnb.Palettize(2))
    good = np.tile([0.0, 1.0, 9.0], (len(model.weights), 1))
    head = next(name for name in model.program.weights.name if "head_weight" in name)
    row = model.program.weight_row[head]

    def allocated(error: np.ndarray, **more: object) -> tnb.Allocation:
        table = tnb.ErrorTable(schemes, error, "measured", "made up")
        return tnb.allocate(model, "6 bits", error=table, schemes=schemes, progress=False, **more)

    assert allocated(good).grade == "measured"
    for value, says in ((np.inf, "finite"), (-1.0, "not below zero")):
        wrong = good.copy()
        wrong[row, 1] = value
        with pytest.raises(tnb.TalariaError, match=f"{head} as 4-bit palettize.*{says}"):
            allocated(wrong)
    hole = good.copy()
    hole[row, 1] = np.nan  # of this weight as this scheme: it does not get it
    assert tnb.Palettize(4) in allocated(good).schemes.values()
    assert allocated(hole)[head] != tnb.Palettize(4)
    with pytest.raises(tnb.TalariaError, match=f"{head} as 4-bit palettize is not known"):
        allocated(hole, pins={"head": tnb.Palettize(4)})
    unknown = good.copy()
    unknown[:, 2] = np.nan  # nobody looked at this scheme: it is not offered
    with pytest.raises(tnb.BudgetError, match="least"):
        tnb.allocate(
            model, "3 bits", error=tnb.ErrorTable(schemes, unknown, "weight", ""), schemes=schemes, progress=False
        )
    blank = good.copy()
    blank[row, 1:] = np.nan  # nothing is known of this weight: it stays as it is
    assert tnb.Plan(model)[head] == tnb.Float16()
    kept = tnb.ErrorTable(schemes, blank, "measured", "")
    assert tnb.allocate(model, "11 bits", error=kept, schemes=schemes, progress=False)[head] == tnb.Float16()
    with pytest.raises(tnb.TalariaError, match="not known"):
        allocated(unknown, pins={"head": tnb.Palettize(2)})
    with pytest.raises(tnb.TalariaError, match="shape"):
        allocated(good[1:])


def test_a_sensitivity_weighs_the_squared_errors_and_a_frame_is_taken_as_it_is() -> None:
    model = models.classifier()
    names = list(model.program.weights.name)
    head = next(name for name in names if "head_weight" in name)
    sensitivity = pd.Series(1.0, index=names)
    even = tnb.allocate(model, "5 bits", error=sensitivity, progress=False)
    sensitivity[head] = 1e6
    uneven = tnb.allocate(model, "5 bits", error=sensitivity, progress=False)
    assert even.grade == uneven.grade == "estimated"
    assert even.error == pytest.approx(tnb.allocate(model, "5 bits", error="squared_error", progress=False).error)
    assert uneven[head].bits > even[head].bits
    frame = pd.DataFrame({tnb.Palettize(8): 0.5, tnb.Palettize(4): 2.0}, index=names)
    plan = tnb.allocate(model, "8 bits", error=frame, schemes=[tnb.Palettize(8), tnb.Palettize(4)], progress=False)
    compressed = sum(scheme != tnb.Float16() for scheme in plan.schemes.values())
    assert plan.grade == "measured"
    assert 0.5 * compressed < plan.error <= 2 * compressed


def test_afm_mixes_two_and_four_bits_and_keeps_embeddings_at_eight() -> None:
    model = models.tied()
    plan = tnb.allocate(model, preset="afm", progress=False)
    embeddings = [name for name, scheme in plan.schemes.items() if scheme == tnb.LinearQuantize("int8", "per_channel")]
    readers = {op for name in embeddings for op in model.program.weights.readers[model.program.weight_row[name]]}
    assert embeddings
    assert any(model.program.ops.op_type[op].startswith("gather") for op in readers)
    plan = tnb.allocate(models.classifier(), preset="AFM", progress=False)
    projections = [scheme for scheme in plan.schemes.values() if scheme != tnb.Float16()]
    assert {scheme.bits for scheme in projections} == {2, 4}
    [spent] = plan.spent.values()
    assert 2 < spent <= 3.6


@pytest.mark.parametrize("name", tnb.presets())
def test_every_preset_says_where_it_is_from_and_gives_a_plan(name: str) -> None:
    assert tnb.preset(name.upper()).source.startswith("https://")
    model = models.classifier()
    plan = tnb.allocate(model, preset=name, progress=False)
    assert set(plan.schemes.values()) - {tnb.Float16()}
    for weight, scheme in plan.schemes.items():
        assert tnb.Plan(model).set([weight], scheme)[weight] == scheme


def test_a_weight_that_came_compressed_stays_as_it_is() -> None:
    plan = tnb.Plan(models.classifier()).set("head", tnb.Palettize(4))
    model = tnb.load(plan.compress(progress=False), progress=False)
    [stored] = set(tnb.Plan(model).schemes.values()) - {tnb.Float16()}
    found = tnb.allocate(model, "5 bits", progress=False)
    head = next(name for name, scheme in tnb.Plan(model).schemes.items() if scheme == stored)
    assert found[head] == stored
    assert found.estimate(DEVICE).bits_per_weight <= 5


def test_an_allocation_is_a_plan_and_its_edits_are_plain_plans() -> None:
    model = models.classifier()
    found = tnb.allocate(model, "5 bits", progress=False)
    assert found == tnb.Plan(model).with_schemes(found.scheme_of_weight)
    assert found.bound <= found.error
    assert found.gap == pytest.approx(found.error / found.bound - 1)
    assert "weight error" in repr(found)
    assert type(found.set("head", tnb.Palettize(8))) is tnb.Plan
