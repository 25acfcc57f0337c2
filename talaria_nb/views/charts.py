"""Charts."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

if TYPE_CHECKING:
    from talaria_nb.session import Session


class Charts:
    """Plotly figures of a session: they follow its plan and device, and share its selection.

    Each is made when it is first asked for, and can be shown in any cells, alone or inside ipywidgets layouts.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._chosen: list[int] = []

    @cached_property
    def roofline(self) -> go.FigureWidget:
        """Every op under the roofs of its unit; see `talaria_nb.roofline.roofline`.

        A click on a point selects its op, with ctrl, cmd or shift beside what is selected; a box or lasso selects
        several; a double click selects none.
        """
        figure = go.FigureWidget()
        self._draw(figure)
        self._session.observe(lambda _change: self._draw(figure), ["plan", "device", "compute_unit"])
        self._session.observe(lambda _change: self._mark(figure), "selection")
        return figure

    def _draw(self, figure: go.FigureWidget) -> None:
        drawn = self._session.plan.roofline(self._session.device, self._session.compute_unit)
        with figure.batch_update():
            figure.data = ()
            figure.add_traces(drawn.data)
            figure.layout.update(drawn.layout, uirevision="stays")
        for trace in figure.data:
            trace.on_click(self._clicked)
            trace.on_selection(lambda trace, points, _selector: self._selected(figure, trace, points))
            trace.on_deselect(lambda _trace, _points: self._select([]))
        self._mark(figure)

    def _mark(self, figure: go.FigureWidget) -> None:
        """Show the session's selection."""
        rows = [self._session.model.program.op_row[name] for name in self._session.selection]
        with figure.batch_update():
            for trace in figure.data:
                if trace.mode == "markers":
                    at = np.flatnonzero(np.isin(trace.customdata, rows)).tolist()
                    trace.selectedpoints = at if rows else None

    def _clicked(self, trace: Any, points: Any, state: Any) -> None:
        # Called for every trace, whether or not it has what was clicked.
        if not points.point_inds or trace.mode != "markers":
            return
        row = int(trace.customdata[points.point_inds[0]])
        if not (state.ctrl or state.meta or state.shift):
            self._select([row])
            return
        rows = [self._session.model.program.op_row[name] for name in self._session.selection]
        self._select([each for each in rows if each != row] if row in rows else [*rows, row])

    def _selected(self, figure: go.FigureWidget, trace: Any, points: Any) -> None:
        # Called for one trace after the other, from the first to the last.
        if trace is figure.data[0]:
            self._chosen = []
        if trace.mode == "markers":
            self._chosen += [int(row) for row in trace.customdata[points.point_inds]]
        if trace is figure.data[-1]:
            self._select(self._chosen)

    def _select(self, rows: list[int]) -> None:
        names = self._session.model.program.ops.name
        self._session.selection = tuple(names[row] for row in rows)
