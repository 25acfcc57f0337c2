"""The front of best plans, as a figure that is linked to a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from talaria_nb.pareto import CURRENT

if TYPE_CHECKING:
    import anywidget

    from talaria_nb.pareto import Front


def front_widget(front: Front, session: anywidget.AnyWidget) -> go.FigureWidget:
    """Draw a front so that a click on a plan gives it to the session, and a marker follows the session's plan.

    `let_go` ends that, and frees the session and the plans for a figure that somebody keeps.
    """
    figure = go.FigureWidget(front.figure(session.plan))

    def take(trace: Any, points: Any, _state: object) -> None:
        for point in points.point_inds[:1]:
            session.plan = front.plans[int(trace.customdata[point])]

    def follow(_change: object) -> None:
        [marker] = figure.select_traces({"name": CURRENT})
        with figure.batch_update():
            marker.x, marker.y = front.place(session.plan)

    for trace in figure.data:
        if trace.name != CURRENT:
            trace.on_click(take)
    session.observe(follow, "plan")
    return figure


def let_go(figure: go.FigureWidget) -> None:
    """Close a figure and take away what listens to it: plotly, or a notebook's `Out`, may keep a figure for good."""
    for trace in figure.data:
        trace.on_click(None)
        trace.on_selection(None)
        trace.on_deselect(None)
    figure.close()
