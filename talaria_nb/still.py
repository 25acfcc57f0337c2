"""A still picture of a session as plain HTML: what a saved notebook shows where no widget can be drawn."""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.budgets import in_short
from talaria_nb.estimate import price
from talaria_nb.names import as_html, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable

    from talaria_nb.session import Session

WEIGHTS = 25
"""Weights that are listed, those that take most room first; the others are counted."""

_NO_WIDGET = (
    ".jp-OutputArea-child:has(+ .jp-OutputArea-child .{css_class}) "
    ".jp-OutputArea-output.jupyter-widgets:not(:has(*)) {{ display: none; }}"
)


def still(session: Session, css_class: str) -> str:
    """Draw the totals of a session, and the schemes of its largest weights, as HTML without script.

    The whole has a CSS class, by which the front end hides it while the session lives. A style of its own hides what
    JupyterLab writes above it, in the output before, where it finds no widget: an error.
    """
    now, table = session.estimate, session.cost_table
    loaded = price(table, table.start)
    low, high = now.latency_interval
    program = session.model.program
    columns = table.columns_of(session.plan.scheme_of_weight)
    rows = np.arange(len(columns))
    was, stored = table.file_bytes[rows, table.start], table.file_bytes[rows, columns]
    largest = np.argsort(-was, kind="stable")[:WEIGHTS].tolist()
    more = len(rows) - len(largest)
    totals = [
        ("size of the package", in_short(loaded.size_bytes), in_short(now.size_bytes), "exact to 0.01 %"),
        ("bits a weight", f"{loaded.bits_per_weight:.2f}", f"{now.bits_per_weight:.2f}", "exact"),
        (
            "latency",
            f"≈{loaded.latency_ms:.3g} ms",
            f"≈{now.latency_ms:.3g} ms",
            f"estimated; {low:.3g} to {high:.3g} ms (80 %)",
        ),
    ]
    weights = [
        (
            shortened(program.weights.name[row]),
            table.schemes[columns[row]].label,
            in_short(was[row]),
            in_short(stored[row]),
        )
        for row in largest
    ]
    return (
        f"<style>{_NO_WIDGET.format(css_class=escape(css_class))}</style>"
        f'<div class="{escape(css_class)}">'
        f"<p><strong>{as_html(program.name)}</strong> on {escape(session.device)}: "
        f"the Explorer as it was at {datetime.now().astimezone():%Y-%m-%d %H:%M}. "
        f"It is a picture; {_go_on(session.resume_call)}</p>"
        + _table(("", "as loaded", "now", "how it is known"), totals)
        + _table(("weight", "scheme", "as loaded", "now"), weights)
        + (f"<p>… and {more} weights more</p>" if more else "")
        + "</div>"
    )


def _go_on(call: str) -> str:
    if not call:
        return "run the cell to go on."
    return f"load the model, then run <code>{escape(call)}</code> to go on from where this ends."


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return (
        f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table>"
    )
