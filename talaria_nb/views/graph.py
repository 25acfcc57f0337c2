"""Graph."""

from __future__ import annotations

from talaria_nb.views.view import View


class Graph(View):
    """The computation graph by module, coloured by cost, expanding in place."""

    component = "graph"
