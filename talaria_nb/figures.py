"""Figures of a plan and of an exploration: the timeline, weights by size and error, next steps, history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from talaria_nb.estimate import price_ops
from talaria_nb.latency import BOUNDS
from talaria_nb.names import as_html
from talaria_nb.plot_theme import ACCENT, BOUND_COLOURS, WARM, neutral

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from talaria_nb.costs import CostTable
    from talaria_nb.error_table import ErrorTable
    from talaria_nb.plan import Plan


def timeline(plan: Plan, table: CostTable) -> go.Figure:
    """Draw the ops in the order they run, each as wide as its estimated time.

    Returns
    -------
    plotly.graph_objects.Figure
        One trace of bars for each bound that occurs, named after it; `customdata` holds rows of `model.ops`.
    """
    program = plan.model.program
    costs = price_ops(table, table.columns_of(plan.scheme_of_weight), plan.int8_mask)
    start = np.concatenate([[0.0], np.cumsum(costs.op_ms)[:-1]])
    figure = go.Figure()
    for bound in BOUNDS:
        rows = np.flatnonzero((costs.bound == bound) & (costs.op_ms > 0))
        if rows.size:
            figure.add_bar(
                base=start[rows],
                x=costs.op_ms[rows],
                y=np.zeros(len(rows)),
                orientation="h",
                marker={"color": BOUND_COLOURS[bound], "line": {"width": 0.5, "color": "rgba(255,255,255,0.6)"}},
                name=bound,
                customdata=rows,
                text=[f"{as_html(program.ops.name[row])}<br>{program.ops.op_type[row]}" for row in rows.tolist()],
                textposition="none",
                hovertemplate="%{text}<br>%{x:.3g} ms, estimated<extra>" + bound + "</extra>",
            )
    figure.update_layout(
        title=f"{as_html(program.name)} on {table.device}, estimated",
        barmode="overlay",
        bargap=0,
        xaxis={"title": "ms"},
        yaxis={"visible": False},
        height=220,
        margin={"t": 44, "r": 16, "l": 16, "b": 40},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1.0, "xanchor": "right"},
    )
    return neutral(figure)


def size_and_error(plan: Plan, table: CostTable, errors: ErrorTable | None = None) -> go.Figure:
    """Draw every weight by its bytes and its error, both on logarithmic axes.

    Parameters
    ----------
    plan, table
        What to draw, and its prices; with `signal` and `squared_error` where no other errors are given.
    errors
        Errors of outputs; without, the noise to signal of the weights is drawn.

    Returns
    -------
    plotly.graph_objects.Figure
        One trace; `customdata` holds, for each weight with an error above 0, the row of an op that reads it.
    """
    weights = plan.model.program.weights
    rows, columns = np.arange(len(weights)), table.columns_of(plan.scheme_of_weight)
    if errors is None:
        signal = np.where(table.signal > 0, table.signal, 1.0)
        error, title = table.squared_error[rows, columns] / signal, "noise to signal of the weight"
    else:
        error, title = errors.of(plan.model, table.schemes)[rows, columns], f"{errors.what} ({errors.grade})"
    shown = np.flatnonzero(error > 0)
    figure = go.Figure()
    figure.add_scatter(
        x=table.payload_bytes[rows, columns][shown],
        y=error[shown],
        mode="markers",
        marker={"color": ACCENT},
        customdata=np.array([weights.readers[row][0] for row in shown.tolist()], dtype=int),
        text=[f"{as_html(weights.name[row])}<br>{plan.scheme_of_weight[row].label}" for row in shown.tolist()],
        hovertemplate="%{text}<br>%{x:,.0f} bytes<br>%{y:.3g}<extra></extra>",
    )
    figure.update_layout(
        title=f"{len(shown)} of {len(weights)} weights have an error",
        xaxis={"type": "log", "title": "bytes of the weight"},
        yaxis={"type": "log", "title": title, "exponentformat": "power"},
        margin={"t": 48, "r": 16},
        height=420,
    )
    return neutral(figure)


def next_steps(plan: Plan, table: CostTable, errors: ErrorTable) -> pd.DataFrame:
    """Find, of every weight, the step down that adds least error for what it saves.

    Returns
    -------
    DataFrame
        Indexed by weight, where not to save first: scheme, error (added), bytes (saved), error_per_bit. Weights that
        cannot be made smaller are left out.
    """
    weights = plan.model.program.weights
    columns = table.columns_of(plan.scheme_of_weight)
    rows, best, added, saved = steps_down(table, columns, errors.of(plan.model, table.schemes))
    return pd.DataFrame(
        {
            "scheme": [table.schemes[column].label for column in best.tolist()],
            "error": added,
            "bytes": saved,
            "error_per_bit": added / (8 * saved),
        },
        index=pd.Index([weights.name[row] for row in rows.tolist()], name="weight"),
    )


def steps_down(
    table: CostTable, columns: NDArray[np.integer], error: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating], NDArray[np.floating]]:
    """Find the same from scheme indices and errors alone, as the browser does; `tests/fixtures/` holds both to it.

    Returns
    -------
    tuple
        Rows of the weights, the column that each goes to, the error that adds, and the bytes that saves.
    """
    rows = np.arange(len(columns))
    saved = table.payload_bytes[rows, columns][:, None] - table.payload_bytes
    added = np.maximum(error - error[rows, columns][:, None], 0.0)
    possible = (saved > 0) & (table.reason < 0) & ~np.isnan(added)
    rate = np.where(possible, added / np.where(possible, saved, 1.0), np.inf)
    best = rate.argmin(axis=1)
    rows = rows[possible.any(axis=1)]
    rows = rows[np.argsort(-rate[rows, best[rows]], kind="stable")]
    best = best[rows]
    return rows, best, added[rows, best], saved[rows, best]


def sensitivity(plan: Plan, table: CostTable, errors: ErrorTable) -> go.Figure:
    """Rank the weights by the error that their next step down adds for each bit that it saves.

    Returns
    -------
    plotly.graph_objects.Figure
        One trace of bars, the most first; `customdata` holds the row of an op that reads the weight.
    """
    program = plan.model.program
    steps = next_steps(plan, table, errors)
    figure = go.Figure()
    figure.add_bar(
        x=np.arange(1, len(steps) + 1),
        y=steps["error_per_bit"],
        marker={"color": ACCENT},
        customdata=np.array([program.weights.readers[program.weight_row[name]][0] for name in steps.index], dtype=int),
        text=[f"{as_html(name)}<br>{scheme}" for name, scheme in zip(steps.index, steps["scheme"], strict=True)],
        textposition="none",
        hovertemplate="%{text}<br>adds %{y:.3g} for each bit saved<extra></extra>",
    )
    figure.update_layout(
        title=f"What saving one more bit would add: {errors.what} ({errors.grade})",
        xaxis={"title": "weights, the most sensitive first"},
        yaxis={"type": "log", "title": "error for each bit", "exponentformat": "power"},
        margin={"t": 48, "r": 16},
        height=360,
    )
    return neutral(figure)


def steps_of_history(frame: pd.DataFrame, current: int) -> go.Figure:
    """Draw size and latency after each step of `session.history`; the current step is marked.

    Returns
    -------
    plotly.graph_objects.Figure
        Two traces of points over the steps, the second on an axis of its own.
    """
    figure = go.Figure()
    steps: NDArray[np.int64] = frame.index.to_numpy()
    for column, title, colour, axis in (
        ("size_bytes", "size, bytes", ACCENT, "y"),
        ("latency_ms", "latency, ms, estimated", WARM, "y2"),
    ):
        figure.add_scatter(
            x=steps,
            y=frame[column],
            mode="lines+markers",
            name=title,
            yaxis=axis,
            marker={"color": colour, "size": [13 if step == current else 7 for step in steps.tolist()]},
            line={"color": colour},
            text=[as_html(label) for label in frame["label"]],
            hovertemplate="%{text}<br>%{y:,.4g}<extra>" + title + "</extra>",
        )
    figure.update_layout(
        xaxis={"title": "step", "dtick": max(1, len(frame) // 20)},
        yaxis={"title": "size, bytes", "rangemode": "tozero"},
        yaxis2={"title": "latency, ms", "overlaying": "y", "side": "right", "rangemode": "tozero", "showgrid": False},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom"},
        margin={"t": 48},
        height=320,
    )
    return neutral(figure)
