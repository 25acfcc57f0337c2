"""Charts."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from talaria_nb import figures
from talaria_nb.errors import PlanError
from talaria_nb.views.front import let_go

if TYPE_CHECKING:
    from collections.abc import Callable

    from talaria_nb.session import Session


class Charts:
    """Plotly figures of a session: they follow its plan and device, and share its selection.

    Each is made when it is first asked for, and can be shown in any cells, alone or inside ipywidgets layouts.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._chosen: list[int] = []

    def close(self) -> None:
        """Close the figures that were made, and let go of the session."""
        for name, figure in vars(self).items():
            if name not in {"_session", "_chosen"}:
                let_go(figure)
        del self._session

    @cached_property
    def roofline(self) -> go.FigureWidget:
        """Every op under the roofs of its unit; see `talaria_nb.roofline.roofline`.

        A click on a point selects its op, with ctrl, cmd or shift beside what is selected; a box or lasso selects
        several; a double click selects none.
        """
        session = self._session
        return self._linked(
            lambda: session.plan.roofline(session.device, session.compute_unit), "plan", "device", "compute_unit"
        )

    @cached_property
    def timeline(self) -> go.FigureWidget:
        """The ops in the order they run, each as wide as its time; see `talaria_nb.figures.timeline`.

        Selection as in `roofline`.
        """
        return self._linked(lambda: figures.timeline(self._session.plan, self._session.cost_table), "plan", "costs")

    @cached_property
    def scatter(self) -> go.FigureWidget:
        """Every weight by its bytes and its error; see `talaria_nb.figures.size_and_error`.

        The error is that of `session.error`, or noise to signal, which is found first. Selection as in `roofline`.
        """
        session = self._session
        if session.error is None:
            session.find_errors()
        return self._linked(
            lambda: figures.size_and_error(session.plan, session.cost_table, session.error),
            "plan",
            "costs",
            "error_state",
        )

    @cached_property
    def sensitivity(self) -> go.FigureWidget:
        """Weights by what saving one more bit of them would add to `session.error`; see `figures.sensitivity`.

        Selection as in `roofline`.

        Raises
        ------
        PlanError
            If there is no `session.error`.
        """
        session = self._session
        if session.error is None:
            raise PlanError("There is no session.error yet: session.error = tnb.sensitivity(model, data) finds it.")

        def draw() -> go.Figure:
            if session.error is None:
                return go.Figure()
            return figures.sensitivity(session.plan, session.cost_table, session.error)

        return self._linked(draw, "plan", "costs", "error_state")

    @cached_property
    def pareto(self) -> go.FigureWidget:
        """The best plans over a range of bits, as `session.pareto()`; a click on one takes it."""
        return self._session.pareto()

    @cached_property
    def history(self) -> go.FigureWidget:
        """Size and latency after each step of the history; a click on a step walks there."""
        session = self._session

        def draw() -> go.Figure:
            return figures.steps_of_history(session.history, session.plan_state["cursor"])

        def go_there(_trace: Any, points: Any, _state: object) -> None:
            for point in points.point_inds[:1]:
                session.go_to(point)

        figure = _widget(draw())

        def listen() -> None:
            for trace in figure.data:
                trace.on_click(go_there)

        def refresh(_change: object) -> None:
            _redraw(figure, draw())
            listen()

        listen()
        session.observe(refresh, ["plan_state", "costs"])
        return figure

    def _linked(self, draw: Callable[[], go.Figure], *traits: str) -> go.FigureWidget:
        """Make a figure that is drawn again when traits change; its traces with `customdata` share the selection."""
        figure = _widget(draw())

        def listen() -> None:
            for trace in figure.data:
                trace.on_click(self._clicked)
                trace.on_selection(lambda trace, points, _selector: self._selected(figure, trace, points))
                trace.on_deselect(lambda _trace, _points: self._select([]))
            self._mark(figure)

        def refresh(_change: object) -> None:
            _redraw(figure, draw())
            listen()

        listen()
        self._session.observe(refresh, list(traits))
        self._session.observe(lambda _change: self._mark(figure), "selection")
        return figure

    def _mark(self, figure: go.FigureWidget) -> None:
        """Show the session's selection."""
        rows = [self._session.model.program.op_row[name] for name in self._session.selection]
        with figure.batch_update():
            for trace in figure.data:
                if trace.customdata is not None:
                    at = np.flatnonzero(np.isin(trace.customdata, rows)).tolist()
                    trace.selectedpoints = at if rows else None

    def _clicked(self, trace: Any, points: Any, state: Any) -> None:
        # Called for every trace, whether or not it has what was clicked.
        if not points.point_inds or trace.customdata is None:
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
        if trace.customdata is not None:
            self._chosen += [int(row) for row in trace.customdata[points.point_inds]]
        if trace is figure.data[-1]:
            self._select(self._chosen)

    def _select(self, rows: list[int]) -> None:
        names = self._session.model.program.ops.name
        self._session.selection = tuple(names[row] for row in rows)


def _widget(drawn: go.Figure) -> go.FigureWidget:
    return go.FigureWidget(drawn.update_layout(uirevision="stays"))


def _redraw(figure: go.FigureWidget, drawn: go.Figure) -> None:
    """Show another drawing; what a person zoomed to stays."""
    with figure.batch_update():
        figure.data = ()
        figure.add_traces(drawn.data)
        figure.layout.update(drawn.layout)
