"""Details."""

from __future__ import annotations

from talaria_nb.views.view import View


class Details(View):
    """What is known about the selected op: its numbers, the values of its weights, the code that made it."""

    component = "details"
