"""What was measured stands for the plan that was measured; nothing here ran on hardware."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import models
import talaria_nb as tnb

DEVICE = next(name for name in tnb.devices() if "MacBook" in name)


@pytest.fixture
def session() -> tnb.Session:
    return tnb.Session(models.classifier(), DEVICE)


def measurement(session: tnb.Session, **more: object) -> tnb.Measurement:
    """Say that every conv took 0.25 ms on the GPU, and that Core ML says nothing of the rest."""
    ops = session.model.ops
    convs = ops.loc[ops["op_type"] == "conv", "name"]
    frame = pd.DataFrame({"unit": "gpu", "supported": [("gpu", "cpu")] * len(convs), "latency_ms": 0.25}, index=convs)
    given = {"machine": "this Mac", "compute_unit": "all", "latency_ms": 2.5, "samples_ms": (2.5,), "ops": frame}
    return tnb.Measurement(**(given | more))  # type: ignore[arg-type]


def test_ops_show_what_was_measured_where_their_weights_are_as_they_were(session: tnb.Session) -> None:
    assert "measured_ms" not in session.ops
    session.measured = measurement(session)
    ops = session.ops.set_index("name")
    convs = ops.index[ops["op_type"] == "conv"]
    assert (ops.loc[convs, "measured_ms"] == 0.25).all()
    assert (ops.loc[convs, "measured_unit"] == "gpu").all()
    assert ops.drop(index=convs)["measured_ms"].isna().all()

    session.plan = session.plan.set("blocks.0.pointwise", tnb.Palettize(4))
    changed = session.ops.set_index("name").loc[convs, "measured_ms"].isna()
    modules = session.model.ops.set_index("name").loc[convs, "module"]
    assert modules[changed].tolist() == ["blocks.0.pointwise"]
    session.undo()
    assert not session.ops.set_index("name").loc[convs, "measured_ms"].isna().any()


def test_it_is_of_one_device_and_of_its_activations(session: tnb.Session) -> None:
    session.measured = measurement(session)
    session.device = "iPhone 15 Pro"
    assert session.ops["measured_ms"].isna().all()
    assert session.measured_state["device"] != session.device, "by which the browser knows"
    session.device = session.measured_state["device"]
    session.plan = session.plan.set_activations("blocks.0.pointwise", "int8")
    assert session.ops["measured_ms"].isna().all()
    assert session.measured_state == {}
    session.plan = session.plan.set_activations("*", None)
    assert session.measured_state["machine"] == "this Mac"
    session.measured = None
    assert session.measured_state == {}
    assert "measured_ms" not in session.ops


def test_the_browser_gets_times_units_and_the_plan_that_was_measured(session: tnb.Session) -> None:
    session.plan = session.plan.set("head", tnb.Palettize(4))
    session.measured = measurement(session)
    wire = session.measured_state
    program = session.model.program
    times, units = np.frombuffer(wire["op_ms"]), np.frombuffer(wire["unit"], dtype="u1")
    for row, op_type in enumerate(program.ops.op_type):
        assert np.isnan(times[row]) == (op_type != "conv")
        assert units[row] == (session.costs["units"].index("GPU") if op_type == "conv" else 255)
    assert wire["latency_ms"] == 2.5
    assert wire["scheme"] == session.plan_state["scheme"]


def test_what_cannot_be_of_this_plan_is_refused(session: tnb.Session) -> None:
    with pytest.raises(tnb.TalariaError, match="compute_unit='cpuOnly', but the session prices 'all'"):
        session.measured = measurement(session, compute_unit="cpuOnly")
    others = measurement(session).ops.rename(index=lambda name: f"{name}_of_another")
    with pytest.raises(tnb.TalariaError, match="another model"):
        session.measured = measurement(session, ops=others)
    assert session.measured is None
