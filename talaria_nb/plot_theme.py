"""One look of all figures, readable on light and dark pages alike: no background, and greys of middle lightness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from talaria_nb.latency import BOUNDS

if TYPE_CHECKING:
    import plotly.graph_objects as go

_CLEAR = "rgba(0,0,0,0)"
INK = "#737c8a"
"""For text: a contrast above 4 to white and to the background of JupyterLab's dark theme, #111111."""
_GRID = "rgba(128,136,150,0.25)"

ACCENT, SOFT, WARM, COOL = "#4f86e0", "#8791a1", "#cf7a22", "#2f9e90"
"""For traces: apart in every colour vision, with a contrast above 3 to both backgrounds."""
BOUND_COLOURS = dict(zip(BOUNDS, (SOFT, WARM, ACCENT, COOL), strict=True))
"""What an op waits for → its colour in every figure."""


def neutral(figure: go.Figure) -> go.Figure:
    """Give a figure that look, and return it."""
    axis = {
        "gridcolor": _GRID,
        "linecolor": _GRID,
        "zerolinecolor": _GRID,
        "title_font_size": 12,
    }
    figure.update_layout(
        template="none",
        paper_bgcolor=_CLEAR,
        plot_bgcolor=_CLEAR,
        font={"color": INK},
        title={"font_size": 14, "x": 0.01},
        legend={"bgcolor": _CLEAR},
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure
