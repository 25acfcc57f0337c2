"""What a whole plan loses: composed where a sensitivity knows what weights do to outputs, wherever it is said."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import models
import talaria_nb as tnb
from talaria_nb.effects import Effects
from talaria_nb.errors import PlanError
from talaria_nb.graded import GradedError
from talaria_nb.pareto import BEST, CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("no_loop")

DEVICE = "iPhone 15 Pro"
SCHEMES = (tnb.Float16(), tnb.Palettize(4), tnb.Palettize(3), tnb.Palettize(2), tnb.Palettize(1))
IMAGES = [torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]


@pytest.fixture(scope="module")
def model() -> tnb.Model:
    return models.classifier()


@pytest.fixture(scope="module")
def sens(model: tnb.Model, tmp_path_factory: pytest.TempPathFactory) -> tnb.Sensitivity:
    cache = tmp_path_factory.mktemp("trials")
    return tnb.sensitivity(model, IMAGES, metric="kl", schemes=SCHEMES[1:], cache=cache, progress=False)


@pytest.fixture
def session(model: tnb.Model) -> tnb.Session:
    model.evaluations.clear()  # tests of other files share the model
    return tnb.Session(model, DEVICE)


def composed(value: float) -> GradedError:
    return GradedError(value, "estimated", "kl of the outputs, composed")


def low(model: tnb.Model, nbits: int = 1) -> tnb.Plan:
    return tnb.Plan(model).set("*", tnb.Palettize(nbits))


def added(sens: tnb.Sensitivity, plan: tnb.Plan) -> float:
    columns = [sens.schemes.index(scheme) for scheme in plan.scheme_of_weight]
    return float(sens.error[np.arange(len(columns)), columns].sum())


def sent(session: tnb.Session) -> dict[tuple[int, ...], float]:
    return known(session.loss_state["plans"])


def known(plans: list[dict[str, Any]]) -> dict[tuple[int, ...], float]:
    return {tuple(np.frombuffer(plan["scheme"], "<u2").tolist()): plan["loss"] for plan in plans}


def columns(session: tnb.Session, plan: tnb.Plan) -> tuple[int, ...]:
    return tuple(session.cost_table.columns_of(plan.scheme_of_weight).tolist())


def test_the_loss_of_a_plan_is_composed_and_no_sum(model: tnb.Model, sens: tnb.Sensitivity) -> None:
    plan, other = low(model), low(model, 2)
    total = sens.total(plan)
    assert total != pytest.approx(added(sens, plan), rel=0.01), "or this shows nothing"
    assert plan.loss(sens) == composed(total)
    assert str(plan.loss(sens)) == f"{total:.4g} (estimated: kl of the outputs, composed)"
    both = plan.compare(other, DEVICE, errors=sens)
    assert (both.loss, both.other_loss) == (composed(total), composed(sens.total(other)))
    assert tnb.Plan(model).loss(sens) == composed(0.0)
    eight = plan.set_activations("*", "int8")
    assert eight.loss(sens) == plan.loss(sens), "int8 activations are not imitated"


def test_a_scheme_that_was_not_looked_at_is_refused_and_not_guessed(model: tnb.Model, sens: tnb.Sensitivity) -> None:
    with pytest.raises(PlanError, match=r"know nothing of .* as 8-bit palettize"):
        low(model, 8).loss(sens)
    assert np.isnan(sens.of_plan(low(model, 8)))


def test_a_plan_that_was_found_has_its_loss_beside_the_sum_that_was_made_least(
    model: tnb.Model, sens: tnb.Sensitivity
) -> None:
    model.evaluations.clear()
    found, more = (
        tnb.allocate(model, bits, error=sens, schemes=SCHEMES, progress=False) for bits in ("4 bits", "6 bits")
    )
    assert found.error == pytest.approx(added(sens, found))
    assert found.loss() == found.known_loss == found.loss(sens) == composed(sens.total(found))
    assert f"estimated loss {found.loss().value:.4g}; sum of errors {found.error:.4g}, " in repr(found)
    both = found.compare(more, DEVICE)
    assert (both.loss, both.other_loss) == (found.loss(), more.loss())
    assert found.compare(tnb.Plan(model), DEVICE).other_loss == composed(0.0)


def test_a_front_shows_the_losses_of_its_plans_as_a_whole(model: tnb.Model, sens: tnb.Sensitivity) -> None:
    front = tnb.pareto(model, error=sens, schemes=SCHEMES, points=6, progress=False)
    assert front.frame["loss"].tolist() == [sens.total(plan) for plan in front.plans]
    assert front.frame["error"].tolist() == pytest.approx([added(sens, plan) for plan in front.plans])
    figure = front.figure(front.plans[0])
    [best] = figure.select_traces({"name": BEST})
    assert best.y.tolist() == front.frame["loss"][list(best.customdata)].tolist()
    [current] = figure.select_traces({"name": CURRENT})
    assert list(current.y) == [sens.total(front.plans[0])]
    assert figure.layout.yaxis.title.text == "Error (estimated): kl of the outputs, composed"


def test_the_optimize_menu_says_both(session: tnb.Session, sens: tnb.Sensitivity) -> None:
    session.menu = tnb.Menu(SCHEMES)
    session.error = sens
    session.request = {"id": "1", "action": "optimize", "what": "budget", "budget": "4 bits"}
    said = session.response["message"]
    assert f"Error (estimated: kl of the outputs, composed) {sens.total(session.plan):.3g}." in said
    assert f"the sum over its weights, {added(sens, session.plan):.3g}: no plan has less." in said
    session.request = {"id": "2", "action": "pareto", "along": "bits"}
    plans = np.frombuffer(session.response["scheme"], "<u2").reshape(-1, len(session.model.weights))
    errors = np.frombuffer(session.response["error"], "<f8")
    first = session.plan.with_schemes([session.cost_table.schemes[column] for column in plans[0].tolist()])
    assert errors[0] == sens.total(first)
    assert session.response["what"] == "kl of the outputs, composed"


def rested(session: tnb.Session, edit: Callable[[], None]) -> None:
    """Edit where a loop runs, and wait until the session has come to rest."""

    async def run() -> None:
        published = asyncio.Event()
        session.observe(lambda _change: published.set(), "loss_state")
        before = session.loss_state
        edit()
        assert session.loss_state is before, "not on the path of an edit"
        await asyncio.wait_for(published.wait(), 60)

    asyncio.run(run())


def test_a_session_composes_what_is_on_screen_once_edits_rest(
    session: tnb.Session, sens: tnb.Sensitivity, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.error = sens
    plan, baseline = low(session.model), low(session.model, 3)
    looked_at = []
    compose = Effects.loss
    monkeypatch.setattr(Effects, "loss", lambda *given: looked_at.append(given) or compose(*given))

    def drag() -> None:
        for nbits in (4, 3, 2, 1):
            session.plan = low(session.model, nbits)

    rested(session, drag)
    assert len(looked_at) == 1
    assert sent(session) == {columns(session, plan): sens.total(plan)}
    assert session.loss_state["revision"] == session.error_state["revision"]
    assert session.loss == composed(sens.total(plan))

    def compare() -> None:
        session.baseline = baseline

    rested(session, compare)
    assert sent(session) == {columns(session, each): sens.total(each) for each in (plan, baseline)}
    rested(session, session.undo)
    assert columns(session, plan) not in sent(session)


def test_plans_with_one_scheme_are_known_as_soon_as_errors_are(session: tnb.Session, sens: tnb.Sensitivity) -> None:
    session.error = sens
    anchors = known(session.error_state["anchors"])
    for nbits in (1, 2, 3, 4):
        plan = low(session.model, nbits)
        assert anchors[columns(session, plan)] == sens.total(plan)
    assert session.error_state["composes"]


def test_what_errors_do_not_know_is_not_composed(session: tnb.Session, sens: tnb.Sensitivity) -> None:
    session.error = sens
    session.plan = low(session.model, 8)
    session.publish_losses()
    assert sent(session) == {}
    session.plan = low(session.model, 2)
    session.publish_losses()
    revision = session.loss_state["revision"]
    session.error = tnb.ErrorTable(SCHEMES, sens.error, "estimated", "a table")
    assert session.error_state["revision"] != revision, "what was composed is of other errors"
    assert not session.error_state["composes"]
    assert session.error_state["anchors"] == []
    session.publish_losses()
    assert session.loss_state == {}
    session.error = None
    session.publish_losses()
    assert session.loss_state == {}


def test_what_was_measured_wins(session: tnb.Session, sens: tnb.Sensitivity) -> None:
    plan = low(session.model, 2)
    value = tnb.evaluate(plan, IMAGES, "kl").value
    assert plan.loss(sens) == GradedError(value, "measured", "kl")
    session.error = sens
    session.plan = plan
    assert session.loss.grade == "measured"
    session.model.evaluations.clear()
