"""One look of all figures, readable on light and dark pages alike: no background, and greys of middle lightness."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go

_CLEAR = "rgba(0,0,0,0)"
_INK = "#7d8694"
"""A contrast above 3 to white and to the dark grey of JupyterLab's dark theme."""
_GRID = "rgba(128,136,150,0.25)"

ACCENT, SOFT, WARM, COOL = "#4f86e0", "#9aa4b4", "#d9822b", "#2f9e90"
"""For traces; apart in every colour vision."""


def neutral(figure: go.Figure) -> go.Figure:
    """Give a figure that look, and return it."""
    axis = {"gridcolor": _GRID, "linecolor": _GRID, "zerolinecolor": _GRID}
    figure.update_layout(
        template="none", paper_bgcolor=_CLEAR, plot_bgcolor=_CLEAR, font={"color": _INK}, legend={"bgcolor": _CLEAR}
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure
