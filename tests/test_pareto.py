"""The front of best plans: as data, as a figure, and linked to a session."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest

import models
import talaria_nb as tnb
from talaria_nb.pareto import BEST, CURRENT, UNIFORM

DEVICE = "iPhone 15 Pro"


def trace(figure: go.Figure, name: str) -> go.Scatter:
    [found] = figure.select_traces({"name": name})
    return found


@pytest.mark.parametrize("along", ["size", "bits", "latency", "energy"])
def test_a_front_has_less_error_the_more_is_spent_and_no_uniform_plan_is_beyond_it(along: str) -> None:
    front = tnb.pareto(models.classifier(), device=DEVICE, along=along, points=12, progress=False)
    column = {"size": "size_bytes", "bits": "bits_per_weight", "latency": "latency_ms", "energy": "energy_mj"}[along]
    best = front.frame[front.frame["kind"] == "best"]
    uniform = front.frame[front.frame["kind"] == "uniform"]
    assert (best["bound"] <= best["error"]).all()
    assert best["error"].iloc[-1] == 0
    for (_, less), (_, more) in pairwise(best.iterrows()):
        assert less[column] <= more[column] * (1 + 1e-9)
        assert less["error"] >= more["error"]
    model = models.classifier()
    for row, plan in zip(front.frame.itertuples(), front.plans, strict=True):
        assert getattr(row, column) == getattr(plan.estimate(DEVICE), column)
    for row in uniform.itertuples():
        budget = tnb.Budget(along, getattr(row, column))
        assert tnb.allocate(model, budget, device=DEVICE, progress=False).error <= row.error * (1 + 1e-9)


def test_further_budgets_are_kept_and_ranges_are_checked() -> None:
    model = models.classifier()
    front = tnb.pareto(model, device=DEVICE, along="size", budget="5 bits", points=8, progress=False)
    best = front.frame[front.frame["kind"] == "best"]
    assert (best["bits_per_weight"] <= 5).all()
    assert len(best) > 1
    for more in ({"low": 9.0, "high": 3.0}, {"along": "beauty"}, {"budget": "0.1 bits"}):
        with pytest.raises(tnb.BudgetError):
            tnb.pareto(model, device=DEVICE, points=4, progress=False, **more)


def test_a_script_gets_a_plain_figure() -> None:
    front = tnb.pareto(models.classifier(), device=DEVICE, points=6, progress=False)
    plan = tnb.Plan(models.classifier()).set("*", tnb.Palettize(4))
    figure = front.figure(plan)
    assert type(figure) is go.Figure
    assert (np.diff(trace(figure, BEST).x) > 0).all()
    assert tnb.Palettize(4).label in trace(figure, UNIFORM).text
    [x], [y] = trace(figure, CURRENT).x, trace(figure, CURRENT).y
    assert x == pytest.approx(plan.estimate(DEVICE).bits_per_weight)
    assert y == pytest.approx(front.frame.set_index("scheme").loc[tnb.Palettize(4).label, "error"])


def test_a_click_takes_a_plan_and_the_marker_follows_the_session() -> None:
    session = tnb.Session(models.classifier(), DEVICE)
    figure = session.pareto(points=6, progress=False)
    assert list(trace(figure, CURRENT).x) == [session.estimate.bits_per_weight]
    for name, point in ((BEST, 1), (UNIFORM, 2)):
        clicked = trace(figure, name)
        points = SimpleNamespace(point_inds=[point], xs=[], ys=[], trace_name=name, trace_index=clicked._trace_ind)
        clicked._dispatch_on_click(points, None)
        assert session.estimate.bits_per_weight == pytest.approx(clicked.x[point])
        assert list(trace(figure, CURRENT).x) == [session.estimate.bits_per_weight]
        assert list(trace(figure, CURRENT).y) == pytest.approx([clicked.y[point]])
    session.undo()
    session.undo()
    assert session.plan == tnb.Plan(session.model)
    assert list(trace(figure, CURRENT).y) == [0]
    session.plan = session.plan.set("head", tnb.Palettize(4, "per_grouped_channel", 50))  # nobody knows its error here
    assert len(trace(figure, CURRENT).x) == 0


def test_a_session_takes_the_best_plan_as_one_step() -> None:
    session = tnb.Session(models.classifier(), DEVICE)
    session.plan = session.plan.set("head", tnb.Palettize(2))
    before = session.plan
    found = session.allocate("6 bits", pins={"head": 8}, progress=False)
    assert session.plan == found
    assert session.estimate.bits_per_weight <= 6
    assert session.plan_state["history"][-1]["label"] == "best plan for 6 bits"
    session.undo()
    assert session.plan == before
    session.menu = tnb.Menu((tnb.Palettize(4), tnb.Palettize(8)))
    offered = session.allocate("6 bits", progress=False)
    assert set(offered.schemes.values()) <= {tnb.Float16(), tnb.Palettize(4), tnb.Palettize(8)}
    session.allocate(preset="int4 in blocks of 16", progress=False)
    assert tnb.LinearQuantize("int4", "per_block", 16) in session.plan.schemes.values()
    with pytest.raises(tnb.BudgetError):
        session.allocate("0.01 bits", progress=False)
    assert tnb.LinearQuantize("int4", "per_block", 16) in session.plan.schemes.values()
