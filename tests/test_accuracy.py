"""Errors of outputs in a session: given, estimated and measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import models
import talaria_nb as tnb
from talaria_nb.errors import PlanError
from talaria_nb.graded import GradedError

DEVICE = "iPhone 15 Pro"


@pytest.fixture
def session() -> tnb.Session:
    model = models.classifier()
    model.evaluations.clear()  # tests of other files share the model
    return tnb.Session(model, DEVICE)


def table(session: tnb.Session) -> tnb.ErrorTable:
    schemes = (tnb.Float16(), tnb.Palettize(4), tnb.Palettize(2))
    error = np.arange(3.0) * np.arange(1, len(session.model.weights) + 1)[:, None]
    return tnb.ErrorTable(schemes, error, "estimated", "loss of the outputs")


def sent(session: tnb.Session) -> np.ndarray:
    packed = np.frombuffer(session.error_state["error"])
    return packed.reshape(len(session.model.weights), -1)


def test_errors_cross_in_the_columns_of_the_cost_table(session: tnb.Session) -> None:
    session.error = table(session)
    column = session.cost_table.column
    assert session.error_state["grade"] == "estimated"
    assert session.error_state["what"] == "loss of the outputs"
    error = sent(session)
    assert error.shape == session.cost_table.reason.shape
    assert error[2, column[tnb.Palettize(4)]] == 3.0
    assert error[2, column[tnb.Float16()]] == 0.0
    assert np.isnan(error[2, column[tnb.Palettize(8)]])
    session.error = None
    assert session.error_state == {}


def test_schemes_that_come_later_have_columns_too(session: tnb.Session) -> None:
    session.error = table(session)
    session.menu = session.menu.add(tnb.Prune(0.9))
    assert sent(session).shape == session.cost_table.reason.shape


def test_the_best_plan_is_best_by_the_errors_that_are_shown(session: tnb.Session) -> None:
    worst, *_ = np.flatnonzero(session.model.weights["compressible"])
    schemes = (tnb.Float16(), tnb.Palettize(8), tnb.Palettize(2))
    error = np.tile([0.0, 1e-6, 2e-6], (len(session.model.weights), 1))
    error[worst, 1:] = 1e3
    session.error = tnb.ErrorTable(schemes, error, "estimated", "loss of the outputs")
    found = session.allocate("12 bits")
    assert found.grade == "estimated"
    assert session.plan.scheme_of_weight[worst] == tnb.Float16()


def test_errors_of_another_model_are_refused(session: tnb.Session) -> None:
    with pytest.raises(PlanError, match="Errors are found anew for every model"):
        session.error = tnb.ErrorTable((tnb.Float16(),), np.zeros((1, 1)), "estimated", "nothing")
    assert session.error is None
    assert session.error_state == {}


def test_what_is_measured_of_a_plan_crosses_at_once(session: tnb.Session) -> None:
    assert session.evaluation_state == []
    data = [torch.randn(1, *session.model.program.values.shape[session.model.program.inputs[0]][1:])]
    plan = session.plan.set("*", tnb.Palettize(4))
    first = tnb.evaluate(plan, data)
    second = tnb.evaluate(session.plan, data)
    newest, older = session.evaluation_state
    assert (newest["value"], older["value"]) == (second.value, first.value)
    columns = session.cost_table.columns_of(plan.scheme_of_weight)
    assert np.frombuffer(older["scheme"], "<u2").tolist() == columns.tolist()
    later = tnb.Session(session.model, "A15")
    assert [each["value"] for each in later.evaluation_state] == [second.value, first.value]


def test_every_plan_has_one_number_and_its_grade(session: tnb.Session) -> None:
    model = models.classifier()
    plan = tnb.Plan(model).set("*", tnb.Palettize(2)).set("head", tnb.Palettize(4))
    assert tnb.Plan(model).loss().value == 0
    by_weights = plan.loss()
    assert by_weights.grade == "weight"
    session.plan = plan
    session.find_errors()
    assert by_weights.value == pytest.approx(session.estimate.weight_error, rel=1e-3), "as the Explorer has it"

    errors = table(session)
    added = sum(errors.error[row, errors.schemes.index(scheme)] for row, scheme in enumerate(plan.scheme_of_weight))
    assert plan.loss(errors) == GradedError(added, "estimated", "loss of the outputs")
    frame = pd.DataFrame(errors.error, index=model.weights["name"], columns=list(errors.schemes))
    assert plan.loss(frame) == GradedError(pytest.approx(added), "measured", "measured error")
    assert session.loss.grade == "weight"
    session.error = errors
    assert session.loss == plan.loss(errors)
    with pytest.raises(PlanError, match=r"know nothing of .* as 8-bit palettize"):
        plan.set("head", tnb.Palettize(8)).loss(errors)

    found = tnb.allocate(model, "8 bits", error=errors, schemes=errors.schemes, progress=False)
    assert found.loss() == found.loss(errors) == GradedError(found.error, "estimated", "loss of the outputs")
    data = [torch.randn(1, *model.program.values.shape[model.program.inputs[0]][1:])]
    for measured in (plan, found):
        value = tnb.evaluate(measured, data).value
        assert measured.loss(errors) == measured.loss() == GradedError(value, "measured", "mse")
        assert f"{value:.4g} (measured: mse)" in repr(measured)
    assert session.loss.value == plan.loss().value
    own = tnb.evaluate(plan, eval_fn=lambda module: {"day": float(module(data[0]).shape[1]), "night": 1})
    assert plan.compare(tnb.Plan(model), DEVICE).loss is None, "0 may be the worst of such a number"
    assert (session.loss.value, session.loss.grade) == (own.values["day"], "measured")


def test_a_comparison_says_what_both_plans_cost_in_one_measure(session: tnb.Session) -> None:
    model = session.model
    dense = tnb.Plan(model)
    plan, other = (dense.set("*", tnb.Palettize(nbits)) for nbits in (2, 4))

    def losses(errors: tnb.ErrorTable | None = None, against: tnb.Plan = other) -> list[str]:
        found = plan.compare(against, DEVICE, errors=errors)
        return [] if found.loss is None else [str(found.loss), str(found.other_loss)]

    assert losses() == [], "the errors of weights would take a look at all values"
    errors = table(session)
    estimated = [f"{each.loss(errors).value:.4g} (estimated: loss of the outputs)" for each in (plan, other)]
    assert losses(errors) == estimated

    data = [torch.randn(1, *model.program.values.shape[model.program.inputs[0]][1:]) for _ in range(2)]
    mine = tnb.evaluate(plan, data).value
    assert losses() == [], "of one plan alone"
    assert losses(errors) == estimated
    assert losses(against=dense) == [f"{mine:.4g} (measured: mse)", "0 (measured: mse)"]
    theirs = tnb.evaluate(other, data).value
    assert losses() == losses(errors) == [f"{mine:.4g} (measured: mse)", f"{theirs:.4g} (measured: mse)"]
    tnb.evaluate(other, data, "cosine")
    assert losses() == [], "in other measures"

    found = [
        tnb.allocate(model, bits, error=errors, schemes=errors.schemes, progress=False) for bits in ("8 bits", "9 bits")
    ]
    both = found[0].compare(found[1], DEVICE)
    assert (both.loss, both.other_loss) == (found[0].loss(), found[1].loss())
    assert found[0].compare(dense, DEVICE).other_loss == GradedError(0.0, "estimated", "loss of the outputs")
