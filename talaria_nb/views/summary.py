"""Summary."""

from __future__ import annotations

from talaria_nb.views.view import View


class Summary(View):
    """The totals: size, latency with its interval, bits a weight; before and after."""

    component = "summary"
