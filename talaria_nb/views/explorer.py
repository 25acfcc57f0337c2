"""Explorer."""

from __future__ import annotations

from talaria_nb.views.view import View


class Explorer(View):
    """Everything at once: summary, graph, table and the bar of sliders, side by side."""

    component = "explorer"
