"""The roofline of a session as a widget: it follows the plan, and its selection is the session's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import models
import talaria_nb as tnb

if TYPE_CHECKING:
    import plotly.graph_objects as go

DEVICE = "iPhone 15 Pro"


@pytest.fixture
def session() -> tnb.Session:
    return tnb.Session(models.classifier(), DEVICE)


def markers(figure: go.Figure) -> list[Any]:
    return [trace for trace in figure.data if trace.mode == "markers"]


def marked(figure: go.Figure) -> set[int]:
    """Rows of the ops whose points show as selected."""
    return {int(row) for trace in markers(figure) for row in trace.customdata[list(trace.selectedpoints or ())]}


def happens(figure: go.FigureWidget, event: str, points: list[tuple[int, int]], **keys: bool) -> None:
    """Send what plotly's front end sends: points are (trace, index)."""
    state = {"alt": False, "ctrl": False, "meta": False, "shift": False, "button": 0, "buttons": 0} | keys
    selector = {"type": "box", "selector_state": {"xrange": [0, 1], "yrange": [0, 1]}}
    figure._js2py_pointsCallback = {
        "event_type": event,
        "points": {
            "trace_indexes": [trace for trace, _ in points],
            "point_indexes": [point for _, point in points],
            "xs": [0.0] * len(points),
            "ys": [0.0] * len(points),
        },
        "device_state": state if event == "plotly_click" else None,
        "selector": selector if event == "plotly_selected" else None,
    }


def places(figure: go.FigureWidget) -> dict[int, tuple[int, int]]:
    """Row of an op → where its point is."""
    return {
        int(row): (number, point)
        for number, trace in enumerate(figure.data)
        if trace.mode == "markers"
        for point, row in enumerate(trace.customdata)
    }


def test_it_follows_plan_and_device(session: tnb.Session) -> None:
    figure = session.charts.roofline
    assert session.charts.roofline is figure
    for change in (
        lambda: setattr(session, "plan", session.plan.set("*", tnb.Palettize(2))),
        lambda: setattr(session, "device", "iPhone 12"),
        session.undo,
    ):
        change()
        wanted = session.plan.roofline(session.device)
        assert [trace.name for trace in figure.data] == [trace.name for trace in wanted.data]
        for mine, other in zip(figure.data, wanted.data, strict=True):
            assert np.array_equal(mine.x, other.x)
            assert np.array_equal(mine.y, other.y)
        assert figure.layout.title.text == wanted.layout.title.text


def test_the_sessions_selection_is_marked_and_stays_marked(session: tnb.Session) -> None:
    figure = session.charts.roofline
    assert all(trace.selectedpoints is None for trace in markers(figure))
    names = session.model.program.ops.name
    rows = sorted(places(figure))[:2]
    session.selection = [names[row] for row in rows]
    assert marked(figure) == set(rows)
    session.plan = session.plan.set("*", tnb.Palettize(2))
    assert marked(figure) == set(rows)
    session.selection = ()
    assert all(trace.selectedpoints is None for trace in markers(figure))


def test_clicks_and_boxes_select_in_the_session(session: tnb.Session) -> None:
    figure = session.charts.roofline
    names, at = session.model.program.ops.name, places(figure)
    first, second, *_ = at
    happens(figure, "plotly_click", [at[first]])
    assert session.selection == (names[first],)
    happens(figure, "plotly_click", [at[second]], ctrl=True)
    assert session.selection == (names[first], names[second])
    happens(figure, "plotly_click", [at[first]], shift=True)
    assert session.selection == (names[second],)
    happens(figure, "plotly_selected", list(at.values()))
    assert set(session.selection) == {names[row] for row in at}
    assert session.selected_ops, "the browser's views follow"
    happens(figure, "plotly_deselect", [])
    assert session.selection == ()
