"""Errors of weights in decibels: in the frames of a plan, in those of a session, and as what is written has them."""

from __future__ import annotations

import numpy as np
import pytest

import models
import talaria_nb as tnb
from talaria_nb.distortion import signal, squared_errors
from talaria_nb.frames import COLUMNS

DEVICE = "iPhone 15 Pro"


@pytest.fixture(scope="module")
def plan() -> tnb.Plan:
    plan = tnb.Plan(models.classifier()).set("head", tnb.Palettize(4))
    return plan.set("blocks.0.pointwise", tnb.LinearQuantize("int8"))


def test_errors_of_weights_are_those_of_what_is_written(plan: tnb.Plan) -> None:
    table = plan.weight_table(errors=True).set_index("name")["sqnr_db"]
    written = plan.verify(plan.compress(progress=False))["sqnr_db"]
    assert np.isfinite(table).sum() == 2
    assert table.to_numpy() == pytest.approx(written[table.index].to_numpy(), abs=0.01)
    assert "sqnr_db" not in plan.weight_table()


def test_ops_have_the_ratio_of_all_their_weights(plan: tnb.Plan) -> None:
    table = plan.table(DEVICE, errors=True)
    assert table.columns.isin([*COLUMNS, "float16_weight_bytes", "float16_latency_ms"]).all()
    program = plan.model.program
    start, rows = program.op_weights
    for op, decibels in enumerate(table["sqnr_db"]):
        read = rows[start[op] : start[op + 1]]
        values = [plan.model.weight_value(program.weights.name[row]) for row in read]
        error = sum(
            squared_errors(value, [plan.scheme_of_weight[row]], channel_axes=program.weights.channel_axes[row])[0]
            for row, value in zip(read, values, strict=True)
        )
        if not values:
            assert np.isnan(decibels)
        elif error == 0:
            assert decibels == np.inf
        else:
            assert decibels == pytest.approx(10 * np.log10(sum(map(signal, values)) / error))
    assert "sqnr_db" not in plan.table(DEVICE)


def test_a_session_knows_them_once_they_are_found(plan: tnb.Plan) -> None:
    session = tnb.Session(plan, DEVICE)
    assert session.ops["sqnr_db"].isna().all()
    session.find_errors()
    found = session.ops["sqnr_db"].to_numpy()
    assert found == pytest.approx(plan.table(DEVICE, errors=True)["sqnr_db"].to_numpy(), nan_ok=True)
    assert session.ops["latency_ms"].sum() < session.estimate.latency_ms
    session.plan = session.plan.set("head", tnb.Palettize(2))
    assert np.nanmin(session.ops["sqnr_db"]) < np.nanmin(found)


def test_the_browser_is_told_which_errors_are_exact() -> None:
    session = tnb.Session(models.classifier(), DEVICE)
    flags = np.frombuffer(session.costs["exact_error"], dtype="u1").astype(bool).tolist()
    exact = {scheme["label"]: flag for scheme, flag in zip(session.costs["schemes"], flags, strict=True)}
    assert exact[tnb.Float16().label]
    assert exact[tnb.LinearQuantize("int8").label]
    assert exact[tnb.Prune(0.5).label]
    assert not exact[tnb.Palettize(4).label]
    assert not exact[(tnb.Prune(0.5) + tnb.Palettize(4)).label]
