"""What a Session gives to code beside it: traits to observe and to set, and the ops under its plan."""

from __future__ import annotations

import inspect
import re
from typing import Any

import anywidget
import pandas as pd
import pytest

import models
import talaria_nb as tnb
from talaria_nb.errors import PlanError
from talaria_nb.session import Session

DEVICE = "iPhone 15 Pro"
HEAD = "linear_0_cast_fp16"


@pytest.fixture
def session() -> tnb.Session:
    return Session(models.classifier(), DEVICE)


def test_observers_hear_of_every_change_wherever_it_was_made(session: tnb.Session) -> None:
    heard: list[tuple[str, Any]] = []
    names = ["plan", "selection", "device", "compute_unit", "budgets"]
    session.observe(lambda change: heard.append((change["name"], change["new"])), names)
    start, small = session.plan, session.plan.set("head", tnb.Palettize(4))
    session.plan = small
    session.undo()
    column = session.cost_table.column[tnb.Palettize(4)]
    row = session.model.program.weight_row["p_head_weight_to_fp16"]
    # From here on as the browser does it.
    session.edits = [{"client": "a", "sequence": 1, "kind": "set", "weights": [row], "schemes": [column]}]
    session.selected_ops = [session.model.program.op_row[HEAD]]
    session.device = "iPhone 13"
    session.compute_unit = "cpuAndGPU"
    session.budget_state = {"size": 40_000.0}
    assert heard[:-1] == [
        ("plan", small),
        ("plan", start),
        ("plan", small),
        ("selection", (HEAD,)),
        ("device", "iPhone 13"),
        ("compute_unit", "cpuAndGPU"),
    ]
    assert [(budget.metric, budget.most) for budget in heard[-1][1]] == [("size", 40_000)]


def test_the_ops_are_those_of_the_plan_on_the_device(session: tnb.Session) -> None:
    float16 = session.ops
    session.plan = session.plan.set("head", tnb.Palettize(4))
    session.device = "iPhone XR"
    now = session.ops
    pd.testing.assert_frame_equal(now.drop(columns="sqnr_db"), session.plan.table("iPhone XR"))
    assert list(now["name"][now["weight_bytes"] != float16["weight_bytes"]]) == [HEAD]
    assert (now["latency_ms"] != float16["latency_ms"]).any()
    session.undo()
    session.device = DEVICE
    pd.testing.assert_frame_equal(session.ops, float16)


def test_the_selection_is_any_names_of_ops_and_nothing_else(session: tnb.Session) -> None:
    names = list(session.model.ops["name"])
    for given in (names[:2], (name for name in names[:2]), pd.Series(names[:2])):
        session.selection = ()
        session.selection = given
        assert session.selection == (names[0], names[1])
        assert session.selected_ops == [0, 1]
    session.selection = names[1]
    assert session.selection == (names[1],)
    for unknown in (["no such op"], "no such op"):
        with pytest.raises(PlanError, match="has no op named 'no such op'"):
            session.selection = unknown
    assert session.selection == (names[1],)


def test_every_trait_that_is_not_the_browsers_is_documented_with_its_type() -> None:
    traits = Session.class_traits().keys() - anywidget.AnyWidget.class_traits().keys()
    # What is read-only or ends so is written for the browser.
    public = {
        name
        for name in traits
        if not name.endswith("_state")
        and not Session.class_traits()[name].read_only
        and name not in {"selected_ops", "edits", "request"}
    }
    documented = dict(re.findall(r"^(\w+) : (.+)$", inspect.getdoc(Session) or "", re.MULTILINE))
    assert public == {"plan", "selection", "device", "compute_unit", "budgets"}
    assert public <= documented.keys()
    ours = [each for each in Session.__mro__ if each.__module__.startswith("talaria_nb.")]
    members = {name: member for each in ours for name, member in vars(each).items()}
    settable = {name for name, member in members.items() if isinstance(member, property) and member.fset is not None}
    assert {"baseline", "menu", "error", "measured"} <= settable <= documented.keys()
