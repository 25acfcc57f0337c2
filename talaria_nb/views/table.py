"""Table."""

from __future__ import annotations

from talaria_nb.views.view import View


class Table(View):
    """The ops: one row each, sortable, with a scheme and a slider for those that have weights."""

    component = "table"
