"""Roofline: every op by its FLOPs a byte and the rate that it reaches, under the roofs of its compute unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from talaria_nb.devices import UNITS
from talaria_nb.estimate import price_ops
from talaria_nb.frames import UNIT_TITLES
from talaria_nb.latency import BOUNDS
from talaria_nb.names import as_html
from talaria_nb.plot_theme import BOUND_COLOURS, INK, neutral
from talaria_nb.work import count_work

if TYPE_CHECKING:
    from talaria_nb.devices import Device
    from talaria_nb.plan import Plan

_MARKERS = ("circle", "square", "diamond")


def roofline(plan: Plan, device: Device, compute_unit: str = "all") -> go.Figure:
    """Draw the roofline of a plan on a device.

    Parameters
    ----------
    plan
        What to draw.
    device, compute_unit
        See `Device.unit`.

    Returns
    -------
    plotly.graph_objects.Figure
        One trace of points for each unit and bound that occurs, named after both: x is FLOPs over the bytes of weights
        and activations that move, y is 10⁹ FLOPs a second, `customdata` holds rows of `model.ops`. Ops without FLOPs
        are left out, and so are those that ride with another. Two lines for each unit: its rate of products, met by
        the rate at which weights arrive and by that of activations.
    """
    program = plan.model.program
    work = count_work(program)
    table = plan.cost_table(device, compute_unit)
    costs = price_ops(table, table.columns_of(plan.scheme_of_weight), plan.int8_mask)
    moved = work.traffic_bytes + costs.moved_bytes
    shown = (work.flops > 0) & (moved > 0) & (costs.op_ms > 0)
    intensity = work.flops / np.where(shown, moved, 1.0)
    gflops = work.flops / np.where(shown, costs.op_ms, 1.0) * 1e-6
    figure = go.Figure()
    for code in np.unique(table.unit[shown]).tolist():
        unit, title = device.units[UNITS[code]], UNIT_TITLES[UNITS[code]]
        here = shown & (table.unit == code)
        span = np.geomspace(intensity[here].min() / 2, intensity[here].max() * 2, _POINTS)
        for what, gbps, dash in (("weights", unit.stream_gbps, "solid"), ("activations", unit.activation_gbps, "dot")):
            figure.add_scatter(
                x=span,
                y=np.minimum(unit.compute_tflops * 1e3, span * gbps),
                mode="lines",
                line={"dash": dash, "width": 1.5, "color": INK},
                name=f"{title}: {what} at {gbps:.3g} GB/s",
                hoverinfo="skip",
            )
        for bound in BOUNDS:
            rows = np.flatnonzero(here & (costs.bound == bound))
            if rows.size:
                figure.add_scatter(
                    x=intensity[rows],
                    y=gflops[rows],
                    mode="markers",
                    marker={"symbol": _MARKERS[code], "size": 8, "color": BOUND_COLOURS[bound]},
                    name=f"{title}: {bound}",
                    customdata=rows,
                    text=[
                        f"{as_html(program.ops.name[row])}<br>{program.ops.op_type[row]}, {bound}"
                        for row in rows.tolist()
                    ],
                    hovertemplate="%{text}<br>%{x:.3g} FLOPs/byte<br>%{y:.3g} GFLOP/s<extra></extra>",
                )
    figure.update_layout(
        title=f"{as_html(program.name)} on {device.name}, estimated",
        xaxis={"type": "log", "title": "FLOPs per byte moved"},
        yaxis={"type": "log", "title": "GFLOP/s reached"},
        legend={"orientation": "h", "yanchor": "top", "y": -0.16},
        margin={"t": 48, "r": 16},
        height=_HEIGHT,
        autosize=True,
    )
    return neutral(figure)


_POINTS = 100
_HEIGHT = 520
