"""Names from a model as people read them: no longer than a line, and text wherever it goes."""

from __future__ import annotations

from html import escape

SHOWN = 120
"""Characters of a name that are shown: a line."""


def shortened(name: str) -> str:
    """Cut a name that is longer than anybody reads."""
    return name if len(name) <= SHOWN else name[: SHOWN - 1] + "…"


def as_html(name: str) -> str:
    """Write a name between the tags of HTML, or into a text of plotly's, which reads tags too, as the text it is."""
    return escape(shortened(name), quote=False)  # plotly does not know &quot;
