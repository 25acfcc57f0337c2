"""Sliders."""

from __future__ import annotations

from talaria_nb.views.view import View


class Sliders(View):
    """One scheme and one slider for the selected ops, or for all weights."""

    component = "sliders"
