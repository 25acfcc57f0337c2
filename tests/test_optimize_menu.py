from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

import models
import talaria_nb as tnb
from talaria_nb.budgets import in_short
from talaria_nb.recipes import PRESETS

DEVICE = "iPhone 15 Pro"
_NUMBERS = count()


@pytest.fixture(scope="module")
def model() -> tnb.Model:
    return models.classifier()


@pytest.fixture
def session(model: tnb.Model) -> tnb.Session:
    return tnb.Session(model, DEVICE)


def ask(session: tnb.Session, action: str, **fields: object) -> dict[str, Any]:
    session.request = {"id": f"request {next(_NUMBERS)}", "action": action, **fields}
    answer: dict[str, Any] = session.response
    assert answer["action"] == action
    return answer


def taken(steps: dict[str, Any], budget: float) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Take the steps that fit, as the browser does: a group that was passed over takes no further ones."""
    columns = np.frombuffer(steps["scheme"], dtype="<u2").astype(np.int64)
    group = np.frombuffer(steps["group"], dtype="<i4")
    spent, passed = steps["least"], set()
    for who, column, cost in zip(
        np.frombuffer(steps["step_group"], dtype="<i4").tolist(),
        np.frombuffer(steps["step_column"], dtype="<u2").tolist(),
        np.frombuffer(steps["step_cost"], dtype="<f8").tolist(),
        strict=True,
    ):
        if who in passed or spent + cost > budget:
            passed.add(who)
            continue
        columns[group == who] = column
        spent += cost
    return columns


def test_the_sliders_steps_keep_every_budget_and_are_close_to_the_best_plan(session: tnb.Session) -> None:
    answer = ask(session, "optimize", what="open")
    assert answer["ok"], answer["message"]
    steps = answer["steps"]
    allocator = tnb.Allocator(session.model, schemes=session.menu)
    least, most = allocator.range_of("bits")
    assert steps["least"] == pytest.approx(least)
    assert steps["most"] == pytest.approx(most)
    errors = allocator.errors.of(session.model, session.cost_table.schemes)
    for budget in np.linspace(steps["least"], steps["most"], 7):
        columns = taken(steps, budget * (1 + 1e-12))
        plan = tnb.Plan(session.model).with_schemes([session.cost_table.schemes[column] for column in columns])
        assert plan.estimate(DEVICE).bits_per_weight <= budget * (1 + 1e-9)
        error = errors[np.arange(len(columns)), columns].sum()
        assert error >= allocator.allocate(f"{budget * (1 + 1e-9):.12f} bits", polished=False).bound * (1 - 1e-9)
        if budget in (steps["least"], steps["most"]):
            assert error == pytest.approx(allocator.errors.of_plan(allocator.allocate(f"{budget * 1.000001:.9f} bits")))


def test_a_budget_that_cannot_be_kept_says_what_to_do_in_the_menu(session: tnb.Session) -> None:
    start = session.plan
    answer = ask(session, "optimize", what="budget", budget="0.1 bits")
    assert not answer["ok"]
    assert answer["message"].startswith("No plan keeps 0.1 bits: the least that can be reached is ")
    assert answer["message"].endswith(" bits. Raise the budget.")
    kept = [row for row, op_type in enumerate(session.model.ops["op_type"]) if op_type in {"conv", "linear"}]
    answer = ask(session, "optimize", what="budget", budget="4 bits", keep=kept)
    assert answer["message"].endswith(" bits. Raise the budget, or keep less of the plan as it is.")
    answer = ask(session, "optimize", what="budget", budget="3.6")
    assert answer["message"] == '\'3.6\' has no unit. Write "3.6 bits" or "3.6 MB", "3.6 ms" or "3.6 mJ".'
    assert session.plan == start


@pytest.mark.parametrize(
    ("size", "written"),
    [(576, "576 B"), (451_874, "452 KB"), (999_600, "1 MB"), (10.2e6, "10.2 MB"), (1.64e9, "1.64 GB")],
)
def test_bytes_are_written_in_the_unit_that_is_on_screen(size: float, written: str) -> None:
    assert in_short(size) == written


def test_a_budget_is_one_step_and_the_drag_before_it_part_of_it(session: tnb.Session) -> None:
    start = session.plan
    columns = taken(ask(session, "optimize", what="open")["steps"], 5.0)
    edit = {"client": "a", "sequence": 1, "kind": "set", "gesture": "g", "label": "drag"}
    session.edits = [edit | {"weights": list(range(len(columns))), "schemes": columns.tolist()}]
    assert session.plan != start
    answer = ask(session, "optimize", what="budget", budget="4.5 bits", gesture="g")
    assert answer["ok"], answer["message"]
    assert (
        f"{session.estimate.bits_per_weight:.2f} bits a weight, {session.estimate.size_bytes / 1e3:.3g} KB"
        in (answer["message"])
    )
    assert session.estimate.bits_per_weight <= 4.5
    assert session.plan == tnb.allocate(session.model, "4.5 bits", schemes=session.menu)
    assert [entry["label"] for entry in session.plan_state["history"]] == ["best plan for 4.5 bits"]
    session.undo()
    assert session.plan == start


def test_the_selection_can_be_kept_as_it_is(session: tnb.Session) -> None:
    session.plan = session.plan.set("head", tnb.Palettize(8))
    row = next(row for row, module in enumerate(session.model.ops["module"]) if module == "head")
    assert ask(session, "optimize", what="budget", budget="6 bits", keep=[row])["ok"]
    (head,) = [name for name in session.plan.schemes if "head" in name and session.plan[name].bits == 8]
    assert session.plan[head] == tnb.Palettize(8)
    ask(session, "optimize", what="budget", budget="4 bits")
    assert session.plan[head] != tnb.Palettize(8)


@pytest.mark.parametrize("text", ["1 byte", "0.1 bits", "much", ""])
def test_what_cannot_be_is_said_and_changes_nothing(session: tnb.Session, text: str) -> None:
    plan = session.plan
    answer = ask(session, "optimize", what="budget", budget=text)
    assert not answer["ok"]
    with pytest.raises(tnb.TalariaError) as refused:
        tnb.allocate(session.model, text, device=DEVICE)
    assert answer["message"] == str(refused.value).replace(", or offer smaller schemes (schemes=…)", "")
    assert session.plan == plan


def test_presets_are_listed_and_taken(session: tnb.Session) -> None:
    listed = ask(session, "optimize", what="open")["presets"]
    assert [each["name"] for each in listed] == list(PRESETS)
    assert ask(session, "optimize", what="preset", name="int8")["ok"]
    assert session.plan == tnb.allocate(session.model, preset="int8")
    assert session.plan_state["history"][-1]["label"] == "preset int8"


def test_the_grade_of_the_error_is_told_with_what_it_is_worth(session: tnb.Session) -> None:
    answer = ask(session, "optimize", what="open")
    assert answer["grade"] == "weight"
    assert "knows nothing about the model's output" in answer["warning"]
    assert session.error is None
    sensitivity = np.ones(len(session.model.weights))
    sensitivity[np.flatnonzero(session.model.weights["compressible"])[0]] = 1e6
    session.error = sensitivity
    answer = ask(session, "optimize", what="open")
    assert answer["grade"] == "estimated"
    assert "knows nothing" not in answer["warning"]
    ask(session, "optimize", what="budget", budget="6 bits")
    by_sensitivity = session.plan
    session.error = None
    ask(session, "optimize", what="budget", budget="6 bits")
    assert session.plan != by_sensitivity


def test_a_front_has_the_best_plans_and_the_uniform_ones_for_a_chart(session: tnb.Session) -> None:
    answer = ask(session, "pareto", along="bits")
    assert answer["ok"], answer["message"]
    amount, error = (np.frombuffer(answer[key], dtype="<f8") for key in ("amount", "error"))
    schemes = np.frombuffer(answer["scheme"], dtype="<u2").reshape(len(amount), -1)
    best = np.array([name == "" for name in answer["uniform"]])
    assert (np.diff(amount[best]) > 0).all()
    assert (np.diff(error[best]) <= 0).all()
    assert {scheme.label for scheme in session.menu} == set(answer["uniform"]) - {""}
    for columns, bits in zip(schemes, amount, strict=True):
        plan = session.plan.with_schemes([session.cost_table.schemes[column] for column in columns])
        assert plan.estimate(DEVICE).bits_per_weight == pytest.approx(bits)
    assert not ask(session, "pareto", along="weight")["ok"]
